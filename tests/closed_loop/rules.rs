//! The second half of the loop: the rules, enforced in the container's own network namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lab::{Container, DNS, Docker, Image, Process, egress_tracer, output, wait_until};

use crate::{Setting, run_steps, spec};

/// Never observed: another address, another port, another protocol. And what never succeeded.
const UNSEEN: &str = "\
tcp-abandon 203.0.113.90:443 300 \
tcp-abandon 198.51.100.20:9999 300 \
tcp-abandon 198.51.100.20:444 300 \
udp 203.0.113.90:53 \
udp 198.51.100.20:443";

const UNSEEN_V6: &str = "tcp-abandon [2001:db8::90]:443 300";

/// How rules get into a namespace.
#[derive(Clone, Copy, Debug)]
enum Tool {
    Nft,
    Iptables,
    /// Sets that a companion fills as the workload asks.
    NftByName,
}

/// Loads the rules with `--verdict drop` by either tool: the workload passes, all else does not,
/// and after a restart the documented way of applying them works again.
pub(crate) fn enforce(docker: &Docker, image: &Image, setting: &Setting, folder: &Path) {
    for tool in [Tool::Nft, Tool::Iptables, Tool::NftByName] {
        let rules = generate(tool, folder);
        let idle = spec(image, setting).command(&["sleep", "600000"]);
        let container = idle.run(docker).unwrap();
        assert!(
            passes(&container, "tcp 203.0.113.90:443"),
            "nothing is in force yet"
        );
        let _companion = apply(tool, &container, rules.path());
        check(&container, setting, tool);

        container.restart().unwrap();
        assert!(
            passes(&container, "tcp 203.0.113.90:443"),
            "{tool:?}: a restarted container has a new namespace without rules"
        );
        let _companion = apply(tool, &container, rules.path());
        check(&container, setting, tool);
    }
}

fn check(container: &Container, setting: &Setting, tool: Tool) {
    let told = run_steps(container, &setting.steps);
    for line in told.lines() {
        assert!(line.contains(": ok "), "{tool:?}: {line}");
        assert!(!line.contains("no answer"), "{tool:?}: {line}");
    }
    let unseen = match setting.network {
        Some(_) => format!("{UNSEEN} {UNSEEN_V6}"),
        None => UNSEEN.to_owned(),
    };
    let told = run_steps(container, &unseen);
    for line in told.lines() {
        let got_through = line.contains(": ok ") && !line.contains("no answer");
        assert!(!got_through, "{tool:?}: {line}");
    }
    assert_eq!(
        told.lines().count(),
        unseen
            .split_whitespace()
            .filter(|word| word.contains(':'))
            .count()
    );
}

fn passes(container: &Container, step: &str) -> bool {
    run_steps(container, step).contains(": ok ")
}

fn generate(tool: Tool, folder: &Path) -> tempfile::TempDir {
    let rules = tempfile::tempdir().unwrap();
    let formats: &[(&[&str], &str)] = match tool {
        Tool::Nft => &[(&["nftables"], "rules.nft")],
        Tool::Iptables => &[(&["iptables"], "rules.v4"), (&["ip6tables"], "rules.v6")],
        Tool::NftByName => &[(&["nftables", "--name-sets"], "rules.nft")],
    };
    fs::copy(folder.join("policy.toml"), rules.path().join("policy.toml")).unwrap();
    for (format, file) in formats {
        let mut generate = Command::new(egress_tracer().unwrap());
        generate.arg("generate").arg(folder);
        generate.arg("--format").args(*format);
        generate.args(["--verdict", "drop", "-o"]);
        output(generate.arg(rules.path().join(file))).unwrap();
    }
    rules
}

/// As the header of the rules says.
fn apply(tool: Tool, container: &Container, rules: &Path) -> Option<Process> {
    match tool {
        Tool::Nft => load(container, "nft -f", &rules.join("rules.nft")),
        Tool::NftByName => {
            load(container, "nft -f", &rules.join("rules.nft"));
            return Some(companion(container, rules));
        }
        Tool::Iptables => {
            load(
                container,
                "iptables-restore -w --noflush",
                &rules.join("rules.v4"),
            );
            load(
                container,
                "ip6tables-restore -w --noflush",
                &rules.join("rules.v6"),
            );
        }
    }
    None
}

/// Fills the sets in the container's network namespace; there once this returns.
fn companion(container: &Container, rules: &Path) -> Process {
    let ready = rules.join("ready");
    let _none_before = fs::remove_file(&ready);
    let policy = rules.join("policy.toml");
    // Long answers come over TCP, and this workload never had one.
    let mut add = Command::new(egress_tracer().unwrap());
    add.args(["policy", "add"]).arg(&policy);
    let _there_since_before = output(add.args([DNS, "--port", "53/tcp"]));
    let pid = container.pid().unwrap().to_string();
    let mut names = Command::new("nsenter");
    names.args(["-t", &pid, "-n"]).arg(egress_tracer().unwrap());
    names.arg("names").arg(policy);
    names
        .args(["--include-unreviewed", "--ready-file"])
        .arg(&ready);
    let names = Process::spawn(&mut names).unwrap();
    let is_ready = || Ok(ready.exists().then_some(()));
    wait_until("names are watched", Duration::from_secs(20), is_ready).unwrap();
    names
}

fn load(container: &Container, tool: &str, file: &PathBuf) {
    let documented = fs::read_to_string(file).unwrap();
    let command = format!("-n {tool} {}", file.file_name().unwrap().to_str().unwrap());
    assert!(
        documented.contains(&command),
        "the header says how: {command}\n{documented}"
    );
    let pid = container.pid().unwrap().to_string();
    let mut enter = Command::new("nsenter");
    enter
        .args(["-t", &pid, "-n"])
        .args(tool.split(' '))
        .arg(file);
    output(&mut enter).unwrap();
}
