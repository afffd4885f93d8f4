//! What the table says after events in every order that can happen, and after too few of them.

use std::path::Path;

use super::*;
use crate::enrich::process::proc::tests::fake;

const CGROUP: u64 = 9;

fn id(pid: u32, start: u64) -> ProcessId {
    ProcessId { pid, start }
}

fn kin(id: ProcessId, parent: ProcessId) -> Kin {
    Kin {
        id,
        ns_pid: id.pid + 1000,
        cgroup_id: CGROUP,
        parent,
        parent_cgroup_id: CGROUP,
    }
}

fn forked(at_ns: u64, id: ProcessId, parent: ProcessId) -> ProcessEvent {
    ProcessEvent::Forked(Forked {
        at_ns,
        kin: kin(id, parent),
        maker: parent,
    })
}

fn executed(at_ns: u64, id: ProcessId, parent: ProcessId, exe: &str) -> ProcessEvent {
    let program = Program {
        comm: comm(exe),
        exe: Some(exe.to_owned()),
        argv: format!("{exe}\0").into_bytes(),
        ..Program::default()
    };
    ProcessEvent::Executed(Box::new(Executed {
        at_ns,
        kin: kin(id, parent),
        program,
    }))
}

fn comm(text: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..text.len()].copy_from_slice(text.as_bytes());
    comm
}

fn table_at(proc: &Path, limit: usize) -> Processes {
    let proc = Proc {
        root: proc.to_owned(),
        cgroups: "/nonexistent".into(),
    };
    Processes::new(proc, limit, Redactor::default())
}

fn table() -> Processes {
    table_at(Path::new("/nonexistent"), 1 << 20)
}

fn described(table: &mut Processes, id: ProcessId, at_ns: u64, name: &str) -> Process {
    let sender = Sender {
        id,
        tid: id.pid,
        comm: comm(name),
        at_ns,
    };
    let mut process = Process::default();
    table.describe(
        &sender,
        |_| Timestamp::UNIX_EPOCH,
        |_, _| true,
        &mut process,
    );
    process
}

fn exe(table: &mut Processes, id: ProcessId, at_ns: u64) -> Option<String> {
    described(table, id, at_ns, "x").exe
}

fn ancestors(process: &Process) -> Vec<&str> {
    process
        .ancestors
        .iter()
        .map(|ancestor| ancestor.exe.as_deref().unwrap_or("?"))
        .collect()
}

const INIT: ProcessId = ProcessId { pid: 1, start: 5 };
const SHELL: ProcessId = ProcessId {
    pid: 10,
    start: 100,
};
const CURL: ProcessId = ProcessId {
    pid: 11,
    start: 200,
};

/// init, a shell that it started, and what that started.
fn family() -> Vec<ProcessEvent> {
    vec![
        executed(1, INIT, id(0, 0), "init"),
        forked(100, SHELL, INIT),
        executed(110, SHELL, INIT, "sh"),
        forked(200, CURL, SHELL),
        executed(210, CURL, SHELL, "curl"),
    ]
}

#[test]
fn a_process_runs_what_its_maker_ran_until_it_calls_exec() {
    let mut table = table();
    family().into_iter().for_each(|event| table.apply(event));
    assert_eq!(exe(&mut table, CURL, 205).as_deref(), Some("sh"));
    assert_eq!(exe(&mut table, CURL, 210).as_deref(), Some("curl"));
    let process = described(&mut table, CURL, 300, "curl");
    assert_eq!(ancestors(&process), ["sh", "init"]);
    assert!(!process.ancestors_cut);
    assert_eq!(process.ns_pid, Some(1011));
}

#[test]
fn events_told_twice_change_nothing() {
    let (mut once, mut twice) = (table(), table());
    for event in family() {
        once.apply(event.clone());
        twice.apply(event.clone());
        twice.apply(event);
    }
    for at_ns in [205, 300] {
        let told = described(&mut once, CURL, at_ns, "curl");
        assert_eq!(described(&mut twice, CURL, at_ns, "curl"), told);
    }
    assert_eq!((once.len(), once.bytes()), (twice.len(), twice.bytes()));
}

#[test]
fn ancestors_outlive_their_entries() {
    let mut table = table();
    family().into_iter().for_each(|event| table.apply(event));
    table.apply(ProcessEvent::Exited {
        at_ns: 300,
        id: SHELL,
    });
    table.swept(400);
    assert_eq!(table.len(), 2);
    let process = described(&mut table, CURL, 500, "curl");
    assert_eq!(ancestors(&process), ["sh", "init"]);
}

#[test]
fn an_ancestor_is_told_as_it_was_when_it_forked() {
    let mut table = table();
    family().into_iter().for_each(|event| table.apply(event));
    table.apply(executed(300, SHELL, INIT, "sleep"));
    assert_eq!(
        ancestors(&described(&mut table, CURL, 400, "curl")),
        ["sh", "init"]
    );
    table.apply(forked(500, id(12, 500), SHELL));
    let child = described(&mut table, id(12, 500), 600, "sleep");
    assert_eq!(ancestors(&child), ["sleep", "init"]);
}

#[test]
fn two_processes_with_one_pid_are_two() {
    let mut table = table();
    family().into_iter().for_each(|event| table.apply(event));
    let again = id(CURL.pid, CURL.start + 1);
    table.apply(ProcessEvent::Exited {
        at_ns: 250,
        id: CURL,
    });
    table.apply(forked(260, again, SHELL));
    table.apply(executed(270, again, SHELL, "wget"));
    assert_eq!(exe(&mut table, CURL, 300).as_deref(), Some("curl"));
    assert_eq!(exe(&mut table, again, 300).as_deref(), Some("wget"));
    assert_eq!(exe(&mut table, id(CURL.pid, 7), 300), None);
}

#[test]
fn a_lost_fork_is_made_up_for_by_the_exec() {
    let mut table = table();
    for event in family() {
        if !matches!(&event, ProcessEvent::Forked(fork) if fork.kin.id == CURL) {
            table.apply(event);
        }
    }
    let process = described(&mut table, CURL, 300, "curl");
    assert_eq!(process.exe.as_deref(), Some("curl"));
    assert_eq!(ancestors(&process), ["sh", "init"]);
    // What it ran before is not known.
    assert_eq!(exe(&mut table, CURL, 205), None);
}

#[test]
fn after_a_loss_a_name_that_does_not_fit_is_not_believed() {
    let mut table = table();
    for event in family() {
        if !matches!(&event, ProcessEvent::Executed(exec) if exec.kin.id == CURL) {
            table.apply(event);
        }
    }
    table.lost(220);
    assert_eq!(described(&mut table, CURL, 300, "curl").exe, None);
    assert_eq!(
        described(&mut table, CURL, 300, "sh").exe.as_deref(),
        Some("sh")
    );
    let later = id(12, 500);
    table.apply(forked(500, later, SHELL));
    assert_eq!(
        described(&mut table, later, 600, "renamed").exe.as_deref(),
        Some("sh")
    );
}

#[test]
fn what_ran_before_is_read_and_corrected_by_what_follows() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fake(root.path(), 1, 0, 0, b"init\0");
    fake(root.path(), 10, 1, 3, b"sh\0");
    fake(root.path(), 11, 10, 4, b"curl\0");
    let mut table = table_at(root.path(), 1 << 20);
    table.scan();
    let curl = id(11, 4 * TICK_NS + 77);
    let process = described(&mut table, curl, 50, "curl");
    assert_eq!(process.cmdline, ["curl"]);
    assert_eq!(process.ancestors.len(), 2);
    assert_eq!(
        (process.ancestors[0].pid, process.ancestors_cut),
        (10, false)
    );
    // The events of its fork were waiting while `/proc` was read.
    table.apply(forked(40, curl, id(10, 3 * TICK_NS + 5)));
    assert_eq!(described(&mut table, curl, 50, "sh").cmdline, ["sh"]);
    let other = id(11, 5 * TICK_NS);
    assert_eq!(
        described(&mut table, other, 50, "curl").cmdline,
        Vec::<String>::new()
    );
    assert_eq!(table.len(), 3);
}

#[test]
fn an_exec_that_proc_has_shown_already_is_no_news_but_its_time() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fake(root.path(), 10, 0, 3, b"sh\0");
    let mut table = table_at(root.path(), 1 << 20);
    table.scan();
    let shell = id(10, 3 * TICK_NS + 5);
    let mut event = executed(70, shell, id(0, 0), "sh");
    if let ProcessEvent::Executed(exec) = &mut event {
        exec.program.exe = None;
    }
    table.apply(event);
    assert_eq!(
        described(&mut table, shell, 60, "x").cmdline,
        Vec::<String>::new()
    );
    assert_eq!(described(&mut table, shell, 70, "sh").cmdline, ["sh"]);
}

#[test]
fn who_has_ended_is_forgotten_when_its_flows_are_told() {
    let mut table = table();
    family().into_iter().for_each(|event| table.apply(event));
    table.sends(CURL);
    for id in [SHELL, CURL] {
        table.apply(ProcessEvent::Exited { at_ns: 300, id });
    }
    table.swept(300);
    assert_eq!(table.len(), 3, "it may have sent after the sweep");
    table.swept(301);
    assert_eq!(table.len(), 2, "the shell has sent nothing");
    let minute = 60_000_000_000;
    for round in 1..=3 {
        assert_eq!(
            exe(&mut table, CURL, 400).as_deref(),
            Some("curl"),
            "{round}"
        );
        table.told(round * minute);
    }
    assert_eq!(table.len(), 1);
    assert_eq!(table.all_evicted(), 0);
}

#[test]
fn programs_that_were_left_long_ago_are_forgotten() {
    let mut table = table();
    let second = 1_000_000_000;
    for round in 1..=1000 {
        table.apply(executed(
            round * second,
            INIT,
            id(0, 0),
            &format!("p{round}"),
        ));
        table.told(round * second);
    }
    let entry = table.find(INIT).expect("it runs");
    assert!(entry.images.len() < 16, "{}", entry.images.len());
    assert_eq!(exe(&mut table, INIT, 995 * second).as_deref(), Some("p995"));
    assert_eq!(table.all_evicted(), 0);
}

#[test]
fn a_fork_bomb_takes_no_more_than_it_may() {
    const LIMIT: usize = 256 << 10;
    let mut table = table_at(Path::new("/nonexistent"), LIMIT);
    family().into_iter().for_each(|event| table.apply(event));
    table.sends(CURL);
    for number in 0..100_000_u32 {
        let child = id(100 + number, 1000 + u64::from(number));
        table.apply(forked(1000, child, SHELL));
        table.apply(ProcessEvent::Exited {
            at_ns: 1001,
            id: child,
        });
        assert!(table.bytes() <= LIMIT);
    }
    let evicted = table.take_evicted();
    assert_eq!(evicted.get(&CGROUP).copied(), Some(table.all_evicted()));
    assert!(table.all_evicted() > 99_000, "{}", table.all_evicted());
    assert_eq!(table.take_evicted(), HashMap::new());
    // Whoever runs is forgotten last.
    assert_eq!(exe(&mut table, CURL, 300).as_deref(), Some("curl"));
    assert_eq!(table.by_pid.len(), table.len());
}

#[test]
fn a_process_that_turns_into_another_without_end_is_bounded() {
    let mut table = table();
    for round in 0..10_000 {
        table.apply(executed(round, INIT, id(0, 0), &format!("p{round}")));
    }
    assert_eq!(table.find(INIT).expect("it runs").images.len(), IMAGES);
    assert_eq!(table.all_evicted(), 10_000 - IMAGES as u64);
}
