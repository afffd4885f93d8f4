//! A daemon that does not answer in time: clients go on, and nothing that they do is taken for certain.

use lab::Log;

use crate::world::{World, counter, is_among, is_nobodys, is_of, needs_root, script};

/// One of these calls', or of one that is not known.
#[track_caller]
fn is_doubted(log: &Log, port: u16, calls: &[&str]) {
    let told = is_among(log, port, calls);
    assert_eq!(told["among_cut"], true, "port {port}: {told}");
}

#[test]
fn what_a_client_goes_on_with_is_not_put_down_to_the_call_around() {
    needs_root!();
    let log = World::new().play(&["stalled"]);
    is_of(&log, 1, "outer", "exact");
    is_doubted(&log, 2, &["other", "outer"]);
    // What another process has said of itself is as certain as ever; what it has started is not, since
    // the call of the one in doubt may have asked it to.
    is_of(&log, 3, "other", "exact");
    is_doubted(&log, 4, &["other", "outer"]);
    // It has hung up, and says again what is open.
    is_nobodys(&log, 5);
    is_doubted(&log, 6, &["outer"]);
    is_of(&log, 7, "outer", "exact");
    is_doubted(&log, 8, &["outer"]);
    assert_eq!(counter(&log, "mark_doubts"), 2);
    let gaps: Vec<_> = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "tools")
        .collect();
    assert!(
        !gaps.is_empty() && gaps.iter().all(|gap| gap["severity"] == "detail"),
        "{gaps:?}"
    );
}

#[test]
fn the_client_for_python_begins_again_what_is_open() {
    needs_root!();
    let script = script();
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/src");
    let path = format!("PYTHONPATH={module}");
    let log = World::new().record(&[], &["env", &path, "python3", &script, "client"]);
    is_of(&log, 1, "outer", "exact");
    is_doubted(&log, 2, &["outer"]);
    is_of(&log, 3, "later", "exact");
    is_of(&log, 4, "outer", "exact");
}

#[test]
fn a_call_whose_end_is_not_heard_is_not_certain_afterwards() {
    needs_root!();
    let log = World::new().play(&["ended"]);
    is_doubted(&log, 1, &["over"]);
}

#[test]
fn a_worker_may_serve_a_call_that_is_not_heard() {
    needs_root!();
    let log = World::new().play(&["bystander"]);
    is_doubted(&log, 1, &["known"]);
}
