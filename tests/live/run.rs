//! `run`: the command notices nothing, and nothing of the recording stays.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::world::{
    PATIENCE, Ran, World, agent, finish, first_line, needs_root, run_cgroups, total, until,
};

const NOBODY: u32 = 65_534;

fn shell(world: &World, options: &[&str], script: &str) -> Ran {
    world.run(options, &["sh", "-c", script])
}

#[test]
fn the_commands_own_code_is_the_exit_code() {
    needs_root!();
    let world = World::new();
    assert_eq!(shell(&world, &[], "exit 7").code, Some(7));
    assert_eq!(shell(&world, &[], "kill -TERM $$").code, Some(128 + 15));
    assert_eq!(shell(&world, &[], "kill -KILL $$").code, Some(128 + 9));
    assert_eq!(shell(&world, &[], "true").code, Some(0));
}

#[test]
fn what_cannot_be_executed_is_told_as_a_shell_does() {
    needs_root!();
    let world = World::new();
    let file = world.path("no\x1b[31mprogram");
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    let file = file.to_str().unwrap();
    let out = world.path("out");
    let keep = ["-o", out.to_str().unwrap()];
    world
        .run(&keep, &["no-such-command"])
        .failed(127, "not found");
    world
        .run(&keep, &["./no/such/command"])
        .failed(127, "not found");
    world.run(&keep, &[file]).failed(126, "not executable");
    world.run(&keep, &["/"]).failed(126, "not executable");
    assert!(!out.exists());
    fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    let ran = world.run(&[], &[file]);
    assert_eq!(ran.code, Some(127), "{ran:?}");
    assert!(!ran.err.contains('\x1b'), "{ran:?}");
}

#[test]
fn a_failure_of_its_own_is_125() {
    needs_root!();
    let world = World::new();
    let file = world.path("file");
    fs::write(&file, "x").unwrap();
    let below = file.join("below");
    world
        .run(&["--user", "no-such-user"], &["true"])
        .failed(125, "no-such-user");
    for out in [&file, &below] {
        world
            .run(&["-o", out.to_str().unwrap()], &["true"])
            .failed(125, file.to_str().unwrap());
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "x");
}

#[test]
fn a_cgroup_that_takes_no_process_is_a_failure_of_its_own() {
    needs_root!();
    // Below a threaded cgroup new ones take no process until they are made threaded too.
    let outer = Cgroup::new("threaded").unwrap();
    fs::write(outer.path().join("cgroup.type"), "threaded").unwrap();
    let ran = finish(
        outer
            .command(egress_tracer().unwrap())
            .args(["run", "--", "true"]),
    );
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.err.contains("cannot join the cgroup"), "{ran:?}");
}

#[test]
fn streams_directory_and_environment_are_the_callers() {
    needs_root!();
    let world = World::new();
    let directory = world.path("a directory");
    fs::create_dir(&directory).unwrap();
    let mut tracer = Command::new(egress_tracer().unwrap());
    tracer
        .args(["run", "--", "sh", "-c"])
        .arg("cat; pwd; echo \"$SOME_VALUE\"; echo to stderr >&2")
        .current_dir(&directory)
        .env("SOME_VALUE", "a b\nc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tracer.spawn().unwrap();
    let text = "line\n\0\u{ff}".repeat(20_000);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = format!("{text}{}\na b\nc\n", directory.display());
    assert!(output.stdout == expected.as_bytes());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("to stderr\n"));
}

#[test]
fn the_command_runs_as_the_user_that_was_asked_for() {
    needs_root!();
    let world = World::new();
    let script = "id -u; id -g; id -G; id -ru; echo $USER; grep -c 'CapEff.*0000000000000000' /proc/self/status";
    let ran = shell(&world, &["--user", "nobody"], script);
    assert_eq!(
        ran.out, "65534\n65534\n65534\n65534\nnobody\n1\n",
        "{ran:?}"
    );
    let ran = shell(&world, &["--user", "65534"], "id -un");
    assert_eq!(ran.out, "nobody\n", "{ran:?}");
}

#[test]
fn what_is_written_belongs_to_who_called_sudo_and_nothing_else_does() {
    needs_root!();
    let world = World::new();
    let (fresh, shared) = (world.path("fresh"), world.path("shared"));
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("somebodys"), "x").unwrap();
    for directory in [&fresh, &shared] {
        let mut tracer = world.tracer();
        tracer.env("SUDO_UID", NOBODY.to_string());
        let ran = finish(
            tracer
                .args(["run", "-o", directory.to_str().unwrap()])
                .args(["--", "id", "-u"]),
        );
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(0), "65534\n"),
            "{ran:?}"
        );
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::metadata(&path).unwrap();
            if path.ends_with("somebodys") {
                assert_eq!(found.uid(), 0);
            } else {
                assert_eq!((found.uid(), found.mode() & 0o007), (NOBODY, 0), "{path:?}");
            }
        }
    }
    assert_eq!(fs::metadata(fresh).unwrap().uid(), NOBODY);
    assert_eq!(fs::metadata(shared).unwrap().uid(), 0);
}

#[test]
fn a_process_left_behind_is_named_and_lives_on_outside() {
    needs_root!();
    let world = World::new();
    let ran = shell(
        &world,
        &[],
        "sleep 600 >/dev/null 2>&1 </dev/null & echo $!",
    );
    let pid = ran.out.trim();
    let _end = Killed(pid.parse().unwrap());
    let told = format!("still running, and no longer recorded: pid {pid}");
    assert!(ran.err.contains(&told), "{ran:?}");
    assert_eq!(ran.code, Some(0));
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(!cgroups.contains("egress-tracer-run"), "{cgroups}");
}

/// A process that is ended with the guard.
struct Killed(i32);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

#[test]
fn nothing_stays_in_the_kernel() {
    needs_root!();
    if Command::new("bpftool").arg("version").output().is_err() {
        eprintln!("skipped: only bpftool tells what the kernel holds, and it is not installed");
        return;
    }
    let world = World::new();
    let mut tracer = world.tracer();
    tracer
        .args(["run", "--", &agent(), "wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = Process::spawn(&mut tracer).unwrap();
    let pid = running.pid();
    until("the command runs", || {
        run_cgroups(pid).iter().any(|path| {
            fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
        })
    });
    let held = kernel_objects(pid);
    for kind in ["prog", "map", "link"] {
        let mine: Vec<_> = held.iter().filter(|(what, _)| what == kind).collect();
        assert!(mine.len() >= 4, "{held:?}");
        assert!(mine.iter().all(|(what, id)| exists(what, id)), "{held:?}");
    }
    drop(running.child().stdin.take());
    assert!(running.wait(PATIENCE).unwrap().success());
    assert_eq!(run_cgroups(pid), Vec::<std::path::PathBuf>::new());
    // The kernel frees them a moment after the last user is gone.
    until("the kernel frees them", || {
        !held.iter().any(|(kind, id)| exists(kind, id))
    });
}

/// Programs, maps and links that a process holds, by kind and id.
fn kernel_objects(pid: u32) -> BTreeSet<(String, String)> {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    texts
        .flat_map(|text| {
            let kind_and_id = |line: &str| {
                let (key, id) = line.split_once(":\t")?;
                let kind = key.strip_suffix("_id")?;
                Some((kind.to_owned(), id.trim().to_owned()))
            };
            let found: Vec<_> = text.lines().filter_map(kind_and_id).collect();
            found
        })
        .filter(|(kind, _)| ["prog", "map", "link"].contains(&kind.as_str()))
        .collect()
}

/// Whether the kernel still has it.
fn exists(kind: &str, id: &str) -> bool {
    let mut bpftool = Command::new("bpftool");
    bpftool.args([kind, "show", "id", id]);
    bpftool.output().unwrap().status.success()
}

#[test]
fn two_runs_and_a_daemon_each_see_everything() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("beside").unwrap();
    let name = cgroup.relative();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &name]).unwrap();
    // Below the daemon's cgroup, both at once.
    let mut runs: Vec<_> = ["one", "two"]
        .map(|out| {
            let mut run = cgroup.command("nsenter");
            run.arg(format!("--net={}", world.net().path().display()))
                .arg("--")
                .arg(egress_tracer().unwrap())
                .args(["run", "-o", world.path(out).to_str().unwrap()])
                .args(["--", &agent(), "wait", "flood", "203.0.113.1", "1", "100"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Process::spawn(&mut run).unwrap()
        })
        .into();
    for run in &runs {
        until("both wait", || !run_cgroups(run.pid()).is_empty());
    }
    runs.iter_mut()
        .for_each(|run| drop(run.child().stdin.take()));
    for run in &mut runs {
        assert!(run.wait(PATIENCE).unwrap().success());
    }
    for out in ["one", "two"] {
        let log = Log::read(&world.path(out).join("flows.jsonl")).unwrap();
        assert_eq!(total(&log), 100, "{out}");
    }
    let log = daemon
        .log_until(&name[1..], |log| total(log) >= 200)
        .unwrap();
    assert_eq!(total(&log), 200);
    daemon.stop().unwrap();
}

#[test]
fn runs_into_one_directory_add_up() {
    needs_root!();
    let world = World::new();
    world.record("flood 203.0.113.1 1 3");
    world.record("flood 203.0.113.1 3 4");
    assert_eq!(runs(&world), 2);
    let log = world.record_with(&["--repeat", "3"], "flood 203.0.113.1 1 1");
    assert_eq!(runs(&world), 5);
    assert_eq!(log.count("203.0.113.1", 1), 4);
    assert_eq!(log.count("203.0.113.1", 3), 2);
    let ids: BTreeSet<_> = log
        .of_type("start")
        .map(|start| start["run"].to_string())
        .collect();
    assert_eq!(ids.len(), 5);
    for start in log.of_type("stop") {
        assert_eq!(start["exit_code"], 0, "{start}");
    }
}

fn runs(world: &World) -> u64 {
    let evidence = fs::read_to_string(world.path("out/policy.evidence.json")).unwrap();
    let evidence: Value = serde_json::from_str(&evidence).unwrap();
    evidence["runs"].as_u64().unwrap()
}

#[test]
fn the_number_of_the_run_is_in_the_environment() {
    needs_root!();
    let ran = shell(&World::new(), &["--repeat", "3"], "echo $EGRESS_TRACER_RUN");
    assert_eq!(ran.out, "1\n2\n3\n");
}

#[test]
fn each_run_gets_its_line_until_enough_was_seen() {
    needs_root!();
    let world = World::new();
    let inputs = world.path("inputs");
    fs::write(&inputs, "a 'b\r\n\n$(c)\n").unwrap();
    let each = ["--each", inputs.to_str().unwrap()];
    let script = "echo \"$EGRESS_TRACER_RUN $EGRESS_TRACER_INPUT\" \"$1\"";
    let command = ["sh", "-c", script, "sh", "<{}>"];
    let ran = world.run(&each, &command);
    assert_eq!(ran.out, "1 a 'b <a 'b>\n2 $(c) <$(c)>\n", "{ran:?}");
    let three = world.run(&[&each[..], &["--repeat", "3"]].concat(), &["echo", "{}"]);
    assert_eq!(three.out, "a 'b\n$(c)\na 'b\n", "{three:?}");
    // Half of what a run does can be new after two runs at the least.
    let agent = [&agent()[..], "flood", "203.0.113.1", "1", "2"];
    let until = ["--repeat", "9", "--until-unseen", "50%"];
    let enough = world.run(&until, &agent);
    let told = "run 2: 0.0 % of what a further run does is new; enough after 2 runs";
    assert!(enough.err.contains(told), "{enough:?}");
    fs::write(&inputs, "\n").unwrap();
    world.run(&each, &["true"]).failed(125, "has no line");
    world
        .run(&["--until-unseen", "5%"], &["true"])
        .failed(125, "needs --repeat");
}

#[test]
fn signals_reach_the_command_which_decides() {
    needs_root!();
    for (signal, code) in [
        (Signal::SIGTERM, 42),
        (Signal::SIGINT, 43),
        (Signal::SIGHUP, 44),
    ] {
        let script = "trap 'exit 42' TERM; trap 'exit 43' INT; trap 'exit 44' HUP; \
                      echo ready; read line";
        let (_, status) = signalled(&["run", "--", "sh", "-c", script], signal);
        assert_eq!(status, Some(code), "{signal}");
    }
}

#[test]
fn a_signal_ends_the_repetition() {
    needs_root!();
    let world = World::new();
    let out = world.path("out");
    let options = ["run", "--repeat", "1000", "-o", out.to_str().unwrap(), "--"];
    let command = ["sh", "-c", "echo ready; read line"];
    let (pid, status) = signalled(&[&options[..], &command[..]].concat(), Signal::SIGTERM);
    assert_eq!(status, Some(128 + 15));
    assert_eq!(run_cgroups(pid), Vec::<std::path::PathBuf>::new());
    assert_eq!(world.log().of_type("stop").count(), 1);
}

/// Sends a signal to the tracer once the command says something; its pid and exit code.
fn signalled(arguments: &[&str], signal: Signal) -> (u32, Option<i32>) {
    let mut tracer = Command::new(egress_tracer().unwrap());
    tracer
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Process::spawn(&mut tracer).unwrap();
    assert_eq!(first_line(&mut running), "ready");
    running.signal(signal);
    let status = running.wait(PATIENCE).unwrap();
    (running.pid(), status.code())
}

#[test]
fn a_foreign_directory_is_not_taken_over() {
    needs_root!();
    let world = World::new();
    world.record("flood 203.0.113.1 1 1");
    chown(world.path("out"), Some(NOBODY), None).unwrap();
    let out = world.path("out");
    let before = contents(&out);
    let ran = world.run(&["-o", out.to_str().unwrap()], &["true"]);
    ran.failed(125, "--workload");
    assert_eq!(contents(&out), before);
    assert_eq!(fs::metadata(out).unwrap().uid(), NOBODY);
}

/// Every file below a directory, by name.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}
