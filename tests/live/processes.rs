//! Who sent: the process and what it ran at that moment, and who had started it, however shortly
//! all of them lived.

use std::{
    fs,
    io::Write as _,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Process, binary};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};

use crate::world::{World, agent, finish, needs_root, total, until};

const PEER: &str = "203.0.113.1";

/// The one flow to this port of [`PEER`].
#[track_caller]
fn flow(log: &Log, port: u16) -> &Value {
    let mut flows = log.to(PEER, Some(port));
    let flow = flows.next().unwrap();
    assert_eq!(flows.next(), None, "more than one flow to port {port}");
    flow
}

fn ancestors(flow: &Value) -> &[Value] {
    flow["ancestors"].as_array().map_or(&[], Vec::as_slice)
}

/// `sh -c script` is run and recorded; `$AGENT` is the agent.
fn shell(world: &World, script: &str) -> Log {
    let out = world.path("out");
    let mut tracer = world.tracer();
    tracer.env("AGENT", agent());
    tracer.args(["run", "-o"]).arg(&out);
    let ran = finish(tracer.args(["--", "sh", "-c", script]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    world.log()
}

/// A daemon that records `cgroups`.
fn daemon(world: &World, cgroups: &[&Cgroup], options: &[&str]) -> Daemon {
    let names: Vec<String> = cgroups.iter().map(|cgroup| cgroup.relative()).collect();
    let chosen = names.iter().flat_map(|name| ["--cgroup", name]);
    let arguments: Vec<&str> = chosen.chain(options.iter().copied()).collect();
    Daemon::start(&world.path("daemon"), &arguments).unwrap()
}

fn log_of(world: &World, cgroup: &Cgroup) -> Log {
    let directory = world.path("daemon").join(&cgroup.relative()[1..]);
    Log::read(&directory.join("flows.jsonl")).unwrap()
}

/// A line on its stdin lets a waiting agent go on.
fn go_on(agent: &mut Process) {
    let stdin = agent.child().stdin.as_mut().unwrap();
    stdin.write_all(b"\n").unwrap();
    stdin.flush().unwrap();
}

#[test]
fn a_process_that_lives_two_milliseconds_is_told_in_full() {
    needs_root!();
    let world = World::new();
    let before = log_time();
    let log = shell(
        &world,
        "cd /usr && (: ; $AGENT flood 203.0.113.1 7 7 remark 'a  b' ''; :); :",
    );
    let flow = flow(&log, 7);
    assert_eq!(flow["exe"], agent(), "{flow}");
    assert_eq!(
        flow["cmdline"],
        json!([agent(), "flood", PEER, "7", "7", "remark", "a  b", ""])
    );
    assert_eq!(flow["cwd"], "/usr");
    assert_eq!(flow["uid"], 0);
    let started = flow["started"].as_str().unwrap();
    assert!(*before < *started && started <= flow["first_seen"].as_str().unwrap());
    // The subshell, then the command itself, and nothing that came before it.
    let [subshell, command] = ancestors(flow) else {
        panic!("{flow}");
    };
    assert_eq!(subshell["pid"], flow["ppid"]);
    assert_eq!(command["comm"], "sh");
    assert_eq!(
        command["cmdline"][2].as_str().unwrap().find("cd /usr"),
        Some(0)
    );
    assert_eq!(flow.get("ancestors_cut"), None, "{flow}");
    assert_eq!(flow.get("ns_pid"), None, "{flow}");
}

/// Now, as records tell times.
fn log_time() -> String {
    lab::run("date", &["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).unwrap()
}

#[test]
fn a_parent_that_is_gone_is_an_ancestor_all_the_same() {
    needs_root!();
    let world = World::new();
    let done = world.path("done");
    let script = format!(
        "(p=$(sh -c 'echo $PPID'); p=$p sh -c 'while test -d /proc/$p; do :; done; \
          $AGENT flood 203.0.113.1 8 8; : > {done}' & ); \
         while ! test -e {done}; do :; done",
        done = done.display()
    );
    let log = shell(&world, &script);
    let flow = flow(&log, 8);
    let [orphan, gone, command] = ancestors(flow) else {
        panic!("{flow}");
    };
    assert_eq!(orphan["pid"], flow["ppid"]);
    assert_eq!(gone["comm"], "sh");
    assert_eq!(command["cmdline"], gone["cmdline"]);
    assert_ne!(command["pid"], gone["pid"]);
}

#[test]
fn a_flow_names_what_its_process_ran_at_that_moment() {
    needs_root!();
    let world = World::new();
    let agent = agent();
    let steps = format!(
        "flood {PEER} 1 1 become {agent} flood {PEER} 2 2 \
         threads 1 flood {PEER} 3 3 become {agent} flood {PEER} 4 4"
    );
    let log = world.record(&steps);
    let [first, second, thread, last] = [1, 2, 3, 4].map(|port| flow(&log, port));
    for flow in [second, thread, last] {
        assert_eq!(
            (&flow["pid"], &flow["started"]),
            (&first["pid"], &first["started"])
        );
        assert_eq!(flow["exe"], agent);
    }
    assert_eq!(first["cmdline"][5], "become");
    assert_eq!(second["cmdline"][5], "threads");
    assert_eq!(thread["cmdline"], second["cmdline"]);
    assert_eq!(last["cmdline"], json!([agent, "flood", PEER, "4", "4"]));
    assert_ne!(thread["tid"], thread["pid"]);
    // The thread that called exec is the process's first from then on.
    assert_eq!(last["tid"], last["pid"]);
}

#[test]
fn a_process_that_moves_is_where_it_was_at_the_time() {
    needs_root!();
    let world = World::new();
    let (before, after) = (
        Cgroup::new("before").unwrap(),
        Cgroup::new("after").unwrap(),
    );
    let daemon = daemon(&world, &[&before, &after], &[]);
    let mut command = world.agent_in(&before, "flood 203.0.113.1 1 1 wait flood 203.0.113.1 2 2");
    let mut agent = Process::spawn(command.stdin(Stdio::piped())).unwrap();
    let name = before.relative();
    daemon.log_until(&name[1..], |log| total(log) == 1).unwrap();
    after.add(agent.pid()).unwrap();
    go_on(&mut agent);
    assert!(agent.wait(crate::world::PATIENCE).unwrap().success());
    daemon.stop().unwrap();
    let (first, second) = (log_of(&world, &before), log_of(&world, &after));
    let (first, second) = (flow(&first, 1), flow(&second, 2));
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(first["cmdline"], second["cmdline"]);
    assert_eq!(first["cgroup_path"], before.relative());
    assert_eq!(second["cgroup_path"], after.relative());
}

#[test]
fn what_ran_before_is_known_from_proc() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("early").unwrap();
    let mut command = world.agent_in(&cgroup, "wait flood 203.0.113.1 1 1");
    let mut early = Process::spawn(command.stdin(Stdio::piped())).unwrap();
    let comm = format!("/proc/{}/comm", early.pid());
    until("the agent runs", || {
        fs::read_to_string(&comm).unwrap() == "sample-agent\n"
    });
    let daemon = daemon(&world, &[&cgroup], &[]);
    go_on(&mut early);
    assert!(early.wait(crate::world::PATIENCE).unwrap().success());
    daemon.stop().unwrap();
    let log = log_of(&world, &cgroup);
    let flow = flow(&log, 1);
    assert_eq!(flow["exe"], agent());
    assert_eq!(flow["cmdline"][1], "wait");
    // Up to the first process of all, by way of this test.
    let pids: Vec<_> = ancestors(flow)
        .iter()
        .map(|one| one["pid"].as_u64())
        .collect();
    assert_eq!(
        pids.first(),
        Some(&Some(u64::from(std::process::id()))),
        "{flow}"
    );
    assert_eq!(pids.last(), Some(&Some(1)), "{flow}");
    assert_eq!(flow.get("ancestors_cut"), None);
}

#[test]
fn programs_without_a_file_and_directories_without_a_name_are_told_as_such() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("nameless").unwrap();
    let daemon = daemon(&world, &[&cgroup], &[]);
    let text = fs::read(agent()).unwrap();

    let mut memory = fs::File::from(memfd_create(c"in memory", MFdFlags::empty()).unwrap());
    memory.write_all(&text).unwrap();
    run_descriptor(&world, &cgroup, memory.as_raw_fd(), 1);

    let unlinked = world.path("unlinked");
    fs::copy(agent(), &unlinked).unwrap();
    let opened = fs::File::open(&unlinked).unwrap();
    fs::remove_file(&unlinked).unwrap();
    // The copy is for exec: this side closes its own when exec'ing.
    let inherited = nix::unistd::dup(&opened).unwrap();
    run_descriptor(&world, &cgroup, inherited.as_raw_fd(), 2);

    let gone = world.path("gone");
    let script = format!(
        "mkdir {0} && cd {0} && rmdir {0} && exec nsenter --net={1} -- {2} flood {PEER} 3 3",
        gone.display(),
        world.net().path().display(),
        agent()
    );
    lab::output(cgroup.command("sh").args(["-c", &script])).unwrap();

    daemon.stop().unwrap();
    let log = log_of(&world, &cgroup);
    assert_eq!(flow(&log, 1)["exe"], "/memfd:in memory (deleted)");
    assert_eq!(
        flow(&log, 2)["exe"],
        format!("{} (deleted)", unlinked.display())
    );
    assert_eq!(flow(&log, 3)["exe"], agent());
    assert_eq!(
        flow(&log, 3)["cwd"],
        format!("{} (deleted)", gone.display())
    );
}

/// Runs the agent that an inherited descriptor holds.
fn run_descriptor(world: &World, cgroup: &Cgroup, descriptor: i32, port: u16) {
    let port = port.to_string();
    let mut command = cgroup.command("nsenter");
    command
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", &format!("/proc/self/fd/{descriptor}")])
        .args(["flood", PEER, &port, &port]);
    lab::output(&mut command).unwrap();
}

#[test]
fn two_processes_with_one_pid_in_quick_succession_are_two() {
    needs_root!();
    const NEXT_PID: &str = "/proc/sys/kernel/ns_last_pid";
    if fs::read_to_string(NEXT_PID).is_err() {
        eprintln!("skipped: this kernel has no {NEXT_PID}");
        return;
    }
    let world = World::new();
    let cgroup = Cgroup::new("again").unwrap();
    let daemon = daemon(&world, &[&cgroup], &[]);
    // Others on this machine take pids too: until it has worked.
    let script = format!(
        "p=$($AGENT_SH -c 'echo $$'); port=1; \
         while test $port -lt 400; do \
           for tool in one two; do \
             echo $((p - 1)) > {NEXT_PID}; \
             $AGENT_SH -c 'echo $$; exec \"$@\"' - \
               {} flood {PEER} $port $port remark $tool > pid.$tool; \
             port=$((port + 1)); \
           done; \
           test $(head -n1 pid.one) = $(head -n1 pid.two) && exit 0; \
           p=$((p + 1)); \
         done; exit 1",
        agent()
    );
    let mut command = cgroup.command("nsenter");
    command
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", "sh", "-c", &script])
        .env("AGENT_SH", "/bin/sh")
        .current_dir(world.path("."));
    lab::output(&mut command).unwrap();
    daemon.stop().unwrap();
    let log = log_of(&world, &cgroup);
    let mut by_pid = std::collections::HashMap::<u64, Vec<&Value>>::new();
    for flow in log.flows() {
        let odd = flow["dest_port"].as_u64().unwrap() % 2 == 1;
        let expected = if odd { "one" } else { "two" };
        assert_eq!(
            flow["cmdline"].as_array().unwrap().last().unwrap(),
            expected,
            "{flow}"
        );
        by_pid
            .entry(flow["pid"].as_u64().unwrap())
            .or_default()
            .push(flow);
    }
    let reused = by_pid.values().find(|flows| flows.len() > 1).unwrap();
    assert_ne!(reused[0]["started"], reused[1]["started"]);
}

#[test]
fn command_lines_that_hurt_are_whole_or_cut() {
    needs_root!();
    let world = World::new();
    let hostile = "\n{\"type\":1}\t\"quoted\" \x1b[31mred";
    let long = "x".repeat(32 * 4096 - 1);
    let out = world.path("out");
    let mut tracer = world.tracer();
    tracer.args(["run", "-o"]).arg(&out).args(["--", &agent()]);
    tracer.args(["flood", PEER, "1", "1", "remark", hostile, &long]);
    let ran = finish(&mut tracer);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let log = world.log();
    let flow = flow(&log, 1);
    assert_eq!(flow["cmdline"][6], hostile);
    assert_eq!(flow["cmdline_cut"], true);
    let kept: usize = flow["cmdline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().len() + 1)
        .sum();
    assert!((4096..=4097).contains(&kept), "{kept}");
}

#[test]
fn a_tiny_ring_of_processes_costs_names_and_no_flow() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("tiny").unwrap();
    let daemon = daemon(&world, &[&cgroup], &["--process-ring-bytes", "4096"]);
    let load = binary("load-generator").unwrap();
    let mut bomb = Process::spawn(cgroup.command(load).args(["bomb", "20000", "2"])).unwrap();
    world.act(&cgroup, "repeat 20 fork 4 flood 203.0.113.1 1 3 :: ::");
    assert!(bomb.wait(crate::world::PATIENCE).unwrap().success());
    daemon.stop().unwrap();
    let log = log_of(&world, &cgroup);
    assert_eq!(total(&log), 240);
    let lost: u64 = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "process")
        .inspect(|gap| assert_eq!(gap["severity"], "detail"))
        .map(|gap| gap["lost"].as_u64().unwrap())
        .sum();
    assert!(lost > 0, "the ring was no bottleneck");
    let stats = log.of_type("stats").last().unwrap();
    // What was lost before this log began is told to those that were there.
    assert!(stats["counters"]["process_ring_full"].as_u64().unwrap() >= lost);
    // What is told is right, or nothing.
    for flow in log.flows() {
        assert!(
            [&Value::Null, &json!(agent())].contains(&&flow["exe"]),
            "{flow}"
        );
    }
}

#[test]
fn little_memory_for_processes_costs_names_and_no_flow() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("forgetful").unwrap();
    let daemon = daemon(&world, &[&cgroup], &["--process-memory", "65536"]);
    world.act(&cgroup, "repeat 100 fork 3 flood 203.0.113.1 1 3 :: ::");
    daemon.stop().unwrap();
    let log = log_of(&world, &cgroup);
    assert_eq!(total(&log), 900);
    let stats = log.of_type("stats").last().unwrap();
    assert!(
        stats["counters"]["processes_evicted"].as_u64().unwrap() > 0,
        "{stats}"
    );
    assert!(log.of_type("gap").any(|gap| gap["what"] == "process"));
    for flow in log.flows() {
        assert!(
            [&Value::Null, &json!(agent())].contains(&&flow["exe"]),
            "{flow}"
        );
    }
}

#[test]
fn a_program_below_a_root_of_its_own_is_told_as_the_host_sees_it() {
    needs_root!();
    let world = World::new();
    let root = world.path("root");
    chroot_with_agent(&root);
    let out = world.path("out");
    let mut tracer = world.tracer();
    tracer.args(["run", "-o"]).arg(&out).args(["--", "chroot"]);
    tracer.arg(&root).args(["/agent", "flood", PEER, "1", "1"]);
    let ran = finish(&mut tracer);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let log = world.log();
    assert_eq!(flow(&log, 1)["exe"], root.join("agent").to_str().unwrap());
    assert_eq!(flow(&log, 1)["cwd"], root.to_str().unwrap());
}

/// The agent and its libraries.
fn chroot_with_agent(root: &Path) {
    fs::create_dir(root).unwrap();
    fs::copy(agent(), root.join("agent")).unwrap();
    let libraries = lab::output(Command::new("ldd").arg(agent())).unwrap();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in paths {
        let to = root.join(&path[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}
