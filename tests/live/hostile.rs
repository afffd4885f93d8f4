//! Names and arguments that a workload chose to hurt whoever reads them.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use lab::{Cgroup, Daemon, Log};

use crate::world::{World, agent, finish, needs_root, total};

/// A newline that would forge a record, a colour, a quote, the end of a line to the left, bytes
/// that are no UTF-8, a C1 control sequence.
const NAMES: [&[u8]; 6] = [
    b"a\n{\"type\":1}",
    b"\x1b[31mred\x1b[0m",
    b"q\"uo'te\\",
    b"car\rriage\x08\x7f",
    b"no\xff\xfe\x80utf8",
    b"c1\xc2\x9b31m\xe2\x80\xae",
];

/// No control character but the newlines that end lines and the tabs that begin them.
#[track_caller]
fn assert_harmless(what: &Path, text: &str) {
    for line in text.lines() {
        let raw = line
            .trim_start_matches('\t')
            .chars()
            .find(|c| c.is_control());
        assert_eq!(raw, None, "{}: {line:?}", what.display());
    }
}

/// All files below a directory are harmless text.
fn assert_all_harmless(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            if path.is_dir() {
                return assert_all_harmless(&path);
            }
            assert_harmless(&path, &fs::read_to_string(&path).unwrap());
            1
        })
        .sum()
}

/// The agent under that name.
fn called(world: &World, name: &[u8]) -> PathBuf {
    let path = world
        .path("x")
        .with_file_name(OsString::from_vec(name.to_vec()));
    fs::copy(agent(), &path).unwrap();
    path
}

#[test]
fn hostile_names_and_arguments_are_harmless_in_what_run_writes() {
    needs_root!();
    let world = World::new();
    for (number, name) in NAMES.iter().enumerate() {
        let program = called(&world, name);
        let out = world.path(&format!("out{number}"));
        let mut tracer = world.tracer();
        tracer.args(["run", "-o"]).arg(&out).arg("--").arg(&program);
        tracer.args(["flood", "203.0.113.1", "1", "3", "remark"]);
        tracer.arg(OsString::from_vec(name.to_vec()));
        let ran = finish(&mut tracer);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_harmless(Path::new("stderr"), &ran.err);
        assert!(assert_all_harmless(&out) >= 6);
        let log = Log::read(&out.join("flows.jsonl")).unwrap();
        assert_eq!(total(&log), 3, "{ran:?}");
        let flow = log.flows().next().unwrap();
        let expected: String = String::from_utf8_lossy(&name[..name.len().min(15)]).into();
        assert_eq!(flow["comm"], expected);
        let name = String::from_utf8_lossy(name);
        assert_eq!(flow["cmdline"].as_array().unwrap().last().unwrap(), &*name);
        assert!(flow["exe"].as_str().unwrap().ends_with(&*name), "{flow}");
    }
}

#[test]
fn hostile_names_and_arguments_are_harmless_in_what_the_daemon_writes() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("hostile\"\x1b[31m").unwrap();
    let name = cgroup.relative();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &name]).unwrap();
    for hostile in NAMES {
        let program = called(&world, hostile);
        let mut command = cgroup.command("nsenter");
        command
            .arg(format!("--net={}", world.net().path().display()))
            .arg("--")
            .arg(program)
            .args(["flood", "203.0.113.1", "1", "3", "remark"])
            .arg(OsString::from_vec(hostile.to_vec()));
        lab::output(&mut command).unwrap();
    }
    let stderr = daemon.stop().unwrap();
    assert_harmless(Path::new("stderr"), &stderr);
    assert!(assert_all_harmless(&output) >= 6);
    let directories = fs::read_dir(&output).unwrap().flatten();
    let logs = directories.filter_map(|entry| Log::read(&entry.path().join("flows.jsonl")).ok());
    assert_eq!(
        logs.map(|log| total(&log)).sum::<u64>(),
        3 * NAMES.len() as u64
    );
}

#[test]
fn arguments_without_end_are_cut() {
    needs_root!();
    /// The longest that Linux takes: 32 pages with the zero at the end.
    const LONGEST: usize = 32 * 4096 - 1;
    let world = World::new();
    let out = world.path("out");
    let mut tracer = world.tracer();
    tracer.args(["run", "-o"]).arg(&out).args(["--", &agent()]);
    tracer.args(["flood", "203.0.113.1", "1", "3", "remark"]);
    tracer.args(["\x1b".repeat(LONGEST), "a".repeat(LONGEST)]);
    let ran = finish(&mut tracer);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_harmless(Path::new("stderr"), &ran.err);
    assert_all_harmless(&out);
    let log = Log::read(&out.join("flows.jsonl")).unwrap();
    assert_eq!(total(&log), 3);
    for flow in log.flows() {
        assert_eq!(flow["cmdline_cut"], true, "{flow}");
        assert!(flow["cmdline"].to_string().len() < 64 * 1024);
    }
}
