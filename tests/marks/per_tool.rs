//! `mark --cgroup` and rules per tool: what one tool may, in the kernel, and what `replay` says of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{
    Cgroup, Daemon, Internet, Kind, Log, Namespace, Plan, Process, cgroup2_root, egress_tracer,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{needs_root, script};

/// What is approved for the tool alone, and for anything.
const TOOLS: &str = "198.51.100.7";
const ANYS: &str = "198.51.100.8";
const NOW: [&str; 2] = ["--now", "2026-12-01"];

fn entry(to: &str, ports: &str, tools: &str) -> String {
    format!(
        "[[allow]]\nto = \"{to}\"\nports = [{ports}]\n{tools}status = \"approved\"\n\
         reason = \"for a test\"\nowner = \"o\"\nexpires = 2036-06-01\n"
    )
}

fn policy(entries: &[String]) -> String {
    let head = "schema = \"egress-tracer/policy/1\"\nworkload = \"agent\"\n";
    head.to_owned() + &entries.concat()
}

/// An agent in a namespace and a cgroup of its own, and two servers.
struct Agent {
    // Dropped in this order: a cgroup goes after those below it.
    made: Vec<Made>,
    cgroup: Cgroup,
    client: Namespace,
    _internet: Internet,
    folder: TempDir,
}

/// A cgroup that an operator has made for a tool.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

impl Agent {
    fn new() -> Self {
        let plan = Plan::new()
            .server(Kind::Http, &format!("{TOOLS}:80"))
            .server(Kind::Http, &format!("{ANYS}:80"))
            .name("api.openai.com", &[TOOLS]);
        let internet = Internet::start(&plan).unwrap();
        Self {
            made: Vec::new(),
            cgroup: Cgroup::new("agent").unwrap(),
            client: internet.client("agent").unwrap(),
            _internet: internet,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tools_cgroup(&self, tool: &str) -> PathBuf {
        self.cgroup.path().join(format!("tool-{tool}"))
    }

    /// A command of the agent's: in its cgroup and its namespace.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.client.command("sh");
        command
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(self.cgroup.path())
            .args(words)
            .env("EGRESS_TRACER_SOCKET", self.path("mark.sock"));
        command
    }

    /// Whether a fetch succeeds, begun as these words.
    fn fetches(&self, before: &[&str], url: &str) -> bool {
        let script = script();
        let words = [before, &["python3", &script, "fetch", url]].concat();
        let ran = self.command(&words).output().unwrap();
        assert!(matches!(ran.status.code(), Some(0 | 9)), "{}", said(&ran));
        ran.status.success()
    }

    /// Makes rules of a policy, and the cgroups that they name, and loads them.
    fn enforce(&mut self, policy: &str) {
        fs::write(self.path("policy.toml"), policy).unwrap();
        let (policy, rules) = (self.path("policy.toml"), self.path("rules.nft"));
        let mut render = tracer();
        render
            .args([
                "render",
                "--format",
                "nftables",
                "--per-tool",
                "--verdict",
                "reject",
            ])
            .args(["--cgroup", &self.cgroup.relative(), "-o"])
            .args([&rules, &policy])
            .args(NOW);
        lab::output(&mut render).unwrap();
        let text = fs::read_to_string(&rules).unwrap();
        for path in first(&text) {
            let below = path.strip_prefix("/sys/fs/cgroup/").unwrap();
            let path = cgroup2_root().unwrap().join(below);
            fs::create_dir(&path).unwrap();
            self.made.push(Made(path));
        }
        self.load(&rules);
    }

    /// nft looks for cgroups below `/sys/fs/cgroup` alone.
    fn load(&self, rules: &Path) {
        let script = "mount --bind \"$0\" /sys/fs/cgroup && exec nft -f \"$1\"";
        let mut load = self.client.command("unshare");
        load.args(["-m", "sh", "-c", script])
            .arg(cgroup2_root().unwrap())
            .arg(rules);
        lab::output(&mut load).unwrap();
    }

    fn replay(&self, log: &Path) -> (Option<i32>, Value) {
        let mut replay = tracer();
        let policy = self.path("policy.toml");
        replay
            .arg("replay")
            .args([&policy, &log.to_owned()])
            .args(NOW);
        let ran = replay.args(["--json"]).output().unwrap();
        (
            ran.status.code(),
            serde_json::from_slice(&ran.stdout).unwrap(),
        )
    }
}

fn tracer() -> Command {
    Command::new(egress_tracer().unwrap())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The cgroups that the header says to make first.
fn first(rules: &str) -> Vec<String> {
    let lines = rules
        .lines()
        .filter_map(|line| line.split_once("mkdir -p '"));
    lines
        .map(|(_, path)| path.trim_end_matches('\'').to_owned())
        .collect()
}

/// Where a flow went and for which tool, as `replay` says it.
fn judged(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows = list.as_array().into_iter().flatten();
    let mut all: Vec<_> = rows
        .map(|row| (text(&row["to"]), text(&row["tool"])))
        .collect();
    all.sort();
    all
}

#[test]
fn a_destination_is_reached_from_its_tools_cgroup_alone_and_replay_agrees() {
    needs_root!();
    let mut agent = Agent::new();
    agent.enforce(&policy(&[
        entry(TOOLS, "\"80/tcp\"", "tools = [\"OpenAIChat\"]\n"),
        entry(ANYS, "\"80/tcp\"", ""),
    ]));
    let out = agent.path("out");
    let (name, socket) = (agent.cgroup.relative(), agent.path("mark.sock"));
    let socket = socket.to_str().unwrap();
    let options = ["--cgroup", &name, "--mark-socket", socket];
    let daemon = Daemon::start(&out, &options).unwrap();

    let tracer = egress_tracer().unwrap();
    let tracer = tracer.to_str().unwrap();
    let as_tool = |tool| [tracer, "mark", tool, "--cgroup", "--"];
    let cases: [(&[&str], bool); 3] = [
        (&as_tool("OpenAIChat"), true),
        (&as_tool("WebSearch"), false),
        (&[], false),
    ];
    for (before, is_open) in cases {
        let there = format!("http://{TOOLS}/");
        assert_eq!(agent.fetches(before, &there), is_open, "{before:?}");
        assert!(
            agent.fetches(before, &format!("http://{ANYS}/")),
            "{before:?}"
        );
    }
    // Which was there before is what the rules know: it stays.
    assert!(agent.tools_cgroup("OpenAIChat").exists());
    assert!(!agent.tools_cgroup("WebSearch").exists());

    let workload = name[1..].to_owned();
    let told = |log: &Log| log.count(TOOLS, 80) == 3 && log.count(ANYS, 80) == 3;
    daemon.log_until(&workload, told).unwrap();
    daemon.interrupt().unwrap();
    // The policy is for the agent, whatever its cgroup is called.
    let text = fs::read_to_string(agent.path("policy.toml")).unwrap();
    let text = text.replace("\"agent\"", &format!("{workload:?}"));
    fs::write(agent.path("policy.toml"), text).unwrap();
    let (code, replayed) = agent.replay(&out.join(&workload));
    assert_eq!(code, Some(1), "{replayed:#}");
    let of = |to: &str, tool: &str| (to.to_owned(), tool.to_owned());
    let denied = judged(&replayed["denied"]);
    assert_eq!(
        denied,
        [of(TOOLS, "-"), of(TOOLS, "WebSearch")],
        "{replayed:#}"
    );
    assert_eq!(judged(&replayed["by_tool"]), [of(TOOLS, "OpenAIChat")]);

    // Read back, they allow to all of the agent only what all of it may.
    let in_force = lab::output(agent.client.command("nft").args(["-j", "list", "ruleset"]));
    fs::write(agent.path("in-force.json"), in_force.unwrap()).unwrap();
    let mut diff = Command::new(tracer);
    let list = [agent.path("in-force.json"), out.join(&workload)];
    let ran = diff.arg("diff").args(list).args(NOW).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(
        said(&ran).contains("chain egress_tool1 is for a part"),
        "{}",
        said(&ran)
    );
    let told = String::from_utf8(ran.stdout).unwrap();
    assert!(told.contains(TOOLS) && !told.contains(ANYS), "{told}");

    // Marked, and in the agent's own cgroup: rules cannot know.
    let unseen = [tracer, "mark", "OpenAIChat", "--"];
    assert!(!agent.fetches(&unseen, &format!("http://{TOOLS}/")));
}

/// The thread's own sentence, by the kernel.
#[test]
fn the_provider_is_reached_by_name_while_its_tool_runs() {
    needs_root!();
    let mut agent = Agent::new();
    agent.enforce(&policy(&[
        entry("198.51.100.53", "\"53/udp\", \"53/tcp\"", ""),
        entry("api.openai.com", "\"80/tcp\"", "tools = [\"OpenAIChat\"]\n"),
    ]));
    let ready = agent.path("ready");
    let mut names = agent.client.command(egress_tracer().unwrap());
    names
        .arg("names")
        .arg(agent.path("policy.toml"))
        .args(["--per-tool", "--queue", "77", "--ready-file"])
        .arg(&ready)
        .args(NOW)
        .stderr(Stdio::null());
    let _companion = Process::spawn(&mut names).unwrap();
    let begun = Instant::now();
    while !ready.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not ready");
        thread::sleep(Duration::from_millis(20));
    }
    let tracer = egress_tracer().unwrap();
    let as_tool = |tool| [tracer.to_str().unwrap(), "mark", tool, "--cgroup", "--"];
    let there = "http://api.openai.com/";
    assert!(agent.fetches(&as_tool("OpenAIChat"), there));
    // Its address is in the set by now.
    assert!(!agent.fetches(&[], there));
    assert!(!agent.fetches(&[], &format!("http://{TOOLS}/")));
    assert!(!agent.fetches(&as_tool("WebSearch"), there));
    assert!(agent.fetches(&as_tool("OpenAIChat"), there));
}

/// A tool's cgroup below one of the test's own, and how a command in it is run.
fn mark(cgroup: &Cgroup, words: &[&str]) -> Command {
    let mut command = cgroup.command(egress_tracer().unwrap());
    command
        .args(["mark", "a/b", "--cgroup", "--"])
        .args(words)
        .env("EGRESS_TRACER_SOCKET", "/nonexistent/mark.sock");
    command
}

#[test]
fn a_command_runs_in_its_tools_cgroup_which_goes_with_the_last() {
    needs_root!();
    let cgroup = Cgroup::new("marked").unwrap();
    let place = cgroup.path().join("tool-a%2Fb");
    let ran = mark(&cgroup, &["sh", "-c", "cat /proc/self/cgroup; exit 7"]).output();
    let ran = ran.unwrap();
    assert_eq!(ran.status.code(), Some(7), "{}", said(&ran));
    let told = String::from_utf8(ran.stdout).unwrap();
    let inside = format!("0::{}/tool-a%2Fb", cgroup.relative());
    assert!(told.lines().any(|line| line == inside), "{told}");
    assert!(!place.exists());
    assert_eq!(
        mark(&cgroup, &["/nonexistent"]).status().unwrap().code(),
        Some(127)
    );
    assert_eq!(
        mark(&cgroup, &["sh", "-c", "kill -9 $$"])
            .status()
            .unwrap()
            .code(),
        Some(137)
    );
    assert!(!place.exists());

    // Whoever made it is not the last to leave.
    let quick = mark(&cgroup, &["sleep", "1"]).spawn();
    let mut quick = quick.unwrap();
    while !place.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let mut slow = mark(&cgroup, &["sleep", "2"]).spawn().unwrap();
    assert!(quick.wait().unwrap().success());
    assert!(place.exists());
    assert!(slow.wait().unwrap().success());
    assert!(!place.exists());

    // Many at a time: each end may take away what another is about to enter.
    let all: Vec<_> = (0..20)
        .map(|_| mark(&cgroup, &["true"]).spawn().unwrap())
        .collect();
    for mut one in all {
        assert!(one.wait().unwrap().success());
    }
    assert!(!place.exists());

    // One that was there stays.
    fs::create_dir(&place).unwrap();
    let _made = Made(place.clone());
    assert!(mark(&cgroup, &["true"]).status().unwrap().success());
    assert!(place.exists());
}

#[test]
fn a_cgroup_that_cannot_be_written_is_told_and_nothing_is_run() {
    needs_root!();
    let cgroup = Cgroup::new("marked").unwrap();
    let script = "mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let mut command = cgroup.command("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .arg(cgroup2_root().unwrap())
        .arg(egress_tracer().unwrap())
        .args(["mark", "Web", "--cgroup", "--", "echo", "run"]);
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(125), "{}", said(&ran));
    assert!(ran.stdout.is_empty());
    let told = said(&ran);
    assert!(
        told.contains("cannot make the cgroup") && told.lines().count() == 1,
        "{told}"
    );
}
