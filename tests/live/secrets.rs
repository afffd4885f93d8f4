//! Secrets in command lines reach nothing that is written.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Planted, egress_tracer, planted};

use crate::world::{World, agent, finish, needs_root, total, until};

/// What is planted in the daemon's test, and in that of `run`.
const MANY: usize = 300;
const FEW: usize = 61;

/// Every file below a directory, as text.
fn everything(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &everything(&path);
        } else {
            text += &String::from_utf8_lossy(&fs::read(&path).unwrap());
        }
    }
    text
}

/// The secrets that stand in `text`, as they are or as JSON and TOML write them.
fn leaked<'a>(text: &str, all: &'a [Planted]) -> Vec<&'a Planted> {
    let stands = |secret: &str| {
        let quoted = serde_json::to_string(secret).unwrap();
        text.contains(secret) || text.contains(quoted.trim_matches('"'))
    };
    all.iter()
        .filter(|planted| stands(&planted.secret))
        .collect()
}

/// An agent that connects once and has the secret among its arguments, from a shell that has it
/// too.
fn act(world: &World, cgroup: &Cgroup, planted: &Planted) {
    let mut command = cgroup.command("nsenter");
    command
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", "sh", "-c", "\"$@\"; true", "sh"])
        .args([&agent(), "flood", "203.0.113.1", "9", "9", "remark"])
        .args(&planted.arguments)
        .stdout(Stdio::null());
    lab::output(&mut command).unwrap();
}

#[test]
fn three_hundred_secrets_reach_nothing_that_the_daemon_or_generate_writes() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("secrets").unwrap();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &cgroup.relative()]).unwrap();
    let all = planted(7, MANY);
    all.iter().for_each(|planted| act(&world, &cgroup, planted));
    let stderr = daemon.stop().unwrap();

    let log = find_log(&output);
    assert_eq!(total(&log), MANY as u64);
    // The test of the test: command lines are there, with what is not secret.
    let lines: Vec<String> = log
        .flows()
        .map(|flow| flow["cmdline"].to_string())
        .collect();
    assert_eq!(lines.len(), MANY);
    assert!(
        lines.iter().all(|line| line.contains("remark")),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| line.contains("[redacted]")));

    let out = world.path("generated/");
    let mut generate = Command::new(egress_tracer().unwrap());
    generate.arg("generate").arg(&output).arg("-o").arg(&out);
    let ran = finish(&mut generate);
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let written = [everything(&output), everything(&out), stderr, ran.err].concat();
    let leaks = leaked(&written, &all);
    assert!(leaks.is_empty(), "{} of {MANY}: {leaks:?}", leaks.len());
}

fn find_log(output: &Path) -> Log {
    let mut logs = fs::read_dir(output)
        .unwrap()
        .flatten()
        .filter_map(|entry| Log::read(&entry.path().join("flows.jsonl")).ok());
    logs.next().unwrap()
}

#[test]
fn secrets_of_the_recorded_command_reach_nothing_that_run_writes() {
    needs_root!();
    let world = World::new();
    for (number, some) in planted(8, FEW).chunks(12).enumerate() {
        let out = world.path(&format!("out{number}"));
        let mut tracer = world.tracer();
        tracer.args(["run", "-o"]).arg(&out).args(["--", &agent()]);
        tracer.args(["flood", "203.0.113.1", "9", "9", "remark"]);
        tracer.args(some.iter().flat_map(|planted| &planted.arguments));
        let ran = finish(&mut tracer);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let written = [everything(&out), ran.out, ran.err].concat();
        assert!(written.contains("[redacted]"), "{written}");
        let leaks = leaked(&written, some);
        assert!(leaks.is_empty(), "{leaks:?}: {written}");
    }
}

#[test]
fn no_redact_writes_them_and_redact_adds_a_pattern() {
    needs_root!();
    let world = World::new();
    let record = |options: &[&str]| {
        let agent = agent();
        let remark = ["--password", "hunter2", "badge-77"];
        let steps = [&agent, "flood", "203.0.113.1", "9", "9", "remark"];
        let out = world.path(&options.concat());
        let options = [options, &["-o", out.to_str().unwrap()]].concat();
        let ran = world.run(&options, &[&steps, &remark[..]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        fs::read_to_string(out.join("flows.jsonl")).unwrap()
    };
    let plain = record(&["--no-redact"]);
    assert!(plain.contains("hunter2") && plain.contains("badge-77"));
    let hidden = record(&["--redact", "badge-([0-9]+)"]);
    assert!(!hidden.contains("hunter2") && hidden.contains("badge-[redacted]"));
}

#[test]
fn secrets_of_processes_that_were_there_before_are_hidden_too() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("secrets-before").unwrap();
    let steps = "wait flood 203.0.113.1 9 9 wait remark --token s3cr3t-value";
    let mut early = world.agent_in(&cgroup, steps);
    let mut early = lab::Process::spawn(early.stdin(Stdio::piped())).unwrap();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &cgroup.relative()]).unwrap();
    let mut stdin = early.child().stdin.take().unwrap();
    stdin.write_all(b"go\n").unwrap();
    until("the flow is logged", || {
        everything(&output).contains("\"flow\"")
    });
    drop((stdin, early));
    daemon.stop().unwrap();
    let written = everything(&output);
    assert!(written.contains("[redacted]"), "{written}");
    assert!(!written.contains("s3cr3t-value"), "{written}");
}
