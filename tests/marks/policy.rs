//! What is approved for one tool is not for another: from what a program says of itself to the
//! decision.

use std::{fs, path::PathBuf, process::Command};

use lab::{Internet, Kind, Log, Namespace, Plan, egress_tracer};
use tempfile::TempDir;

use crate::world::{World, needs_root, record_with, script};

const POLICY: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"python3\"\n\
    [[allow]]\nto = \"198.51.100.53\"\nports = [\"53/udp\"]\nstatus = \"approved\"\n\
    reason = \"names\"\nowner = \"o\"\nexpires = 2027-06-01\n\
    [[allow]]\nto = \"api.openai.com\"\nports = [\"80/tcp\"]\ntools = [\"OpenAIChat\"]\n\
    status = \"approved\"\nreason = \"the model provider\"\nowner = \"o\"\nexpires = 2027-06-01\n";
const NOW: [&str; 2] = ["--now", "2026-12-01"];

/// The provider, and an agent that talks to it.
struct Agent {
    client: Namespace,
    _internet: Internet,
    folder: TempDir,
}

impl Agent {
    fn new() -> Self {
        let plan = Plan::new()
            .server(Kind::Http, "198.51.100.7:80")
            .name("api.openai.com", &["198.51.100.7"]);
        let internet = Internet::start(&plan).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        Self {
            client: internet.client("marks").unwrap(),
            _internet: internet,
            folder,
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("out/flows.jsonl")
    }

    /// It asks the provider as each of these tools; `-` is as none.
    fn play(&self, tools: &[&str]) -> Log {
        let script = script();
        let command = [&["python3", &script, "chat"], tools].concat();
        let tracer = self.client.command(egress_tracer().unwrap());
        record_with(tracer, &self.folder.path().join("out"), &[], &command)
    }

    fn judge(&self, verb: &str) -> (Option<i32>, String) {
        let mut command = Command::new(egress_tracer().unwrap());
        command
            .arg(verb)
            .arg(self.folder.path().join("policy.toml"))
            .arg(self.log())
            .args(NOW);
        let ran = command.output().unwrap();
        let told = [ran.stdout, ran.stderr].concat();
        (ran.status.code(), String::from_utf8(told).unwrap())
    }

    #[track_caller]
    fn is_judged(&self, code: i32, words: &str) {
        for verb in ["diff", "replay"] {
            let (found, told) = self.judge(verb);
            assert_eq!(found, Some(code), "{verb}: {told}");
            assert!(told.contains(words), "{verb}: {words:?} is not in {told}");
        }
    }
}

/// The thread's own sentence: `api.openai.com` only while `OpenAIChat` runs.
#[test]
fn the_provider_is_allowed_only_while_its_tool_runs() {
    needs_root!();
    let agent = Agent::new();
    agent.play(&["OpenAIChat", "OpenAIChat"]);
    agent.is_judged(0, "");
    agent.play(&["OpenAIChat", "WebSearch"]);
    agent.is_judged(1, "WebSearch");
    agent.play(&["OpenAIChat", "-"]);
    agent.is_judged(1, "api.openai.com");
}

#[test]
fn names_that_a_workload_gives_its_tools_are_inert() {
    needs_root!();
    let world = World::new();
    let policy = world.path("policy.toml");
    let text = POLICY
        .replace("api.openai.com", "198.51.100.7")
        .replace("80/tcp", "8443/tcp");
    fs::write(&policy, text).unwrap();
    let script = script();
    let log = world.record(&[], &["python3", &script, "hostile", "8443"]);
    let named: Vec<&str> = log
        .to("198.51.100.7", Some(8443))
        .filter_map(|flow| flow["tool"]["name"].as_str())
        .collect();
    assert!(
        named.contains(&"a\nb") && named.contains(&"\u{202e}evil"),
        "{named:?}"
    );
    let raw = fs::read_to_string(world.path("out/flows.jsonl")).unwrap();
    assert!(!raw.contains('\u{1b}'));

    let out = world.path("out/flows.jsonl");
    let report = world.path("report.html");
    let (policy, out) = (policy.to_str().unwrap(), out.to_str().unwrap());
    let verbs: [&[&str]; 7] = [
        &["generate", out, "-o", policy],
        &["policy", "list", policy],
        &["diff", policy, out, NOW[0], NOW[1]],
        &["replay", policy, out, NOW[0], NOW[1]],
        &["coverage", out],
        &["generate", out, "--format", "nftables"],
        &["report", out, "-o", report.to_str().unwrap()],
    ];
    for verb in verbs {
        let ran = Command::new(egress_tracer().unwrap()).args(verb).output();
        let ran = ran.unwrap();
        assert!(
            matches!(ran.status.code(), Some(0 | 1)),
            "{verb:?}: {ran:?}"
        );
        let told = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
        let is_raw = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
        assert!(!told.contains(is_raw), "{verb:?}: {told:?}");
        assert!(!told.contains("a\nb"), "{verb:?}: {told}");
    }
    let text = fs::read_to_string(policy).unwrap();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert!(
        !fs::read_to_string(report)
            .unwrap()
            .contains("<script>alert")
    );
}
