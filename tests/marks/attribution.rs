//! Who is held responsible.

use crate::world::{World, counter, is_among, is_nobodys, is_of, needs_root, script, tool, tools};

#[test]
fn nested_calls_are_exact_and_the_innermost_counts() {
    needs_root!();
    let log = World::new().play(&["nested"]);
    is_nobodys(&log, 1);
    is_of(&log, 2, "o-1", "exact");
    is_of(&log, 3, "i-1", "exact");
    assert_eq!(tool(&log, 3)["kind"], "llm");
    assert_eq!(tool(&log, 3)["name"], "Inner");
    is_of(&log, 4, "o-1", "exact");
    is_of(&log, 5, "i-2", "exact");
    is_nobodys(&log, 6);
    let twice: Vec<_> = tools(&log, 7)
        .into_iter()
        .map(|(tool, count)| (tool["call_id"].as_str().unwrap().to_owned(), count))
        .collect();
    assert_eq!(twice, [("x".to_owned(), 2), ("y".to_owned(), 2)]);
    assert_eq!(counter(&log, "calls_begun"), 5);
    assert_eq!(counter(&log, "mark_unknown_call"), 1);
}

#[test]
fn calls_in_parallel_threads_are_told_apart() {
    needs_root!();
    let log = World::new().play(&["threads"]);
    for number in 0..8 {
        let port = 100 + number;
        is_of(&log, port, &format!("c-{number}"), "exact");
        assert_eq!(log.count(crate::world::HERE, port), 20);
    }
}

#[test]
fn threads_and_forks_serve_anybody_and_programs_the_call_that_started_them() {
    needs_root!();
    let log = World::new().play(&["inherited"]);
    // The only call there is.
    is_of(&log, 1, "a", "process");
    is_of(&log, 2, "a", "process");
    is_of(&log, 3, "a", "process");
    // With another one open.
    is_among(&log, 4, &["a", "b"]);
    is_among(&log, 5, &["a", "b"]);
    is_among(&log, 6, &["a", "b"]);
    is_of(&log, 7, "a", "process");
    // After the end, with nobody else there, and with somebody.
    is_of(&log, 8, "a", "process");
    is_among(&log, 9, &["a", "c"]);
    // A thread that was made outside of any call.
    is_nobodys(&log, 10);
}

#[test]
fn tasks_that_share_a_thread_are_ambiguous_until_one_says_so() {
    needs_root!();
    let log = World::new().play(&["tasks"]);
    is_of(&log, 1, "a", "window");
    let both = is_among(&log, 2, &["a", "b"]);
    assert!(both.get("or_none").is_none(), "{both}");
    is_of(&log, 3, "a", "exact");
    let caller = tool(&log, 3)["caller"].clone();
    assert_eq!(caller, serde_json::json!(["posthog", "requests"]));
    is_of(&log, 4, "b", "exact");
    is_nobodys(&log, 5);
    is_of(&log, 6, "a", "window");
    is_of(&log, 7, "a", "exact");
    is_nobodys(&log, 8);
}

#[test]
fn what_was_said_of_a_worker_can_be_taken_back() {
    needs_root!();
    let log = World::new().play(&["taken_back"]);
    is_among(&log, 1, &["a", "b"]);
    is_of(&log, 2, "b", "exact");
    is_among(&log, 3, &["a", "b"]);
    is_nobodys(&log, 4);
    is_of(&log, 5, "c", "exact");
    is_among(&log, 6, &["a", "b"]);
}

#[test]
fn without_a_thread_the_main_one_is_meant_and_any_thread_may_end_it() {
    needs_root!();
    let log = World::new().play(&["main_thread"]);
    is_of(&log, 1, "m", "exact");
    is_nobodys(&log, 2);
    is_nobodys(&log, 3);
}

#[test]
fn a_worker_that_serves_others_says_so() {
    needs_root!();
    let log = World::new().play(&["shared"]);
    is_of(&log, 1, "a", "process");
    is_among(&log, 2, &["a", "b"]);
}

#[test]
fn a_process_speaks_for_itself_alone() {
    needs_root!();
    let log = World::new().play(&["others"]);
    is_of(&log, 1, "m", "exact");
    is_of(&log, 2, "c", "exact");
    assert_eq!(counter(&log, "mark_not_yours"), 1);
    assert_eq!(counter(&log, "mark_no_thread"), 4);
}

#[test]
fn threads_of_a_pid_namespace_go_by_its_numbers() {
    needs_root!();
    let script = script();
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "python3"];
    let command = [&unshare[..], &[&script, "contained"]].concat();
    let world = World::new();
    // A process outside, whose number is none inside.
    let outside = format!("EGRESS_TRACER_TEST_PID={}", std::process::id());
    let log = world.record(&[], &[&["env", &outside], &command[..]].concat());
    is_of(&log, 1, "c", "exact");
    is_of(&log, 2, "t", "exact");
    assert_eq!(counter(&log, "mark_no_thread"), 1);
}
