//! Floods, garbage, many calls, and clients that die.

use std::process::Command;

use lab::egress_tracer;

use crate::world::{World, counter, is_among, is_nobodys, is_of, needs_root, script, tool};

#[test]
fn a_client_that_dies_ends_its_calls() {
    needs_root!();
    let log = World::new().play(&["dead"]);
    // Its child holds the connection; the process is what counts.
    let told = is_among(&log, 1, &["d"]);
    assert_eq!(told["or_none"], true, "{told}");
    is_nobodys(&log, 2);
}

#[test]
fn a_thread_that_ends_ends_its_calls() {
    needs_root!();
    let log = World::new().play(&["forgotten"]);
    is_of(&log, 1, "f", "exact");
    is_of(&log, 2, "o", "process");
    is_of(&log, 3, "f", "exact");
    assert_eq!(counter(&log, "calls_unended"), 1);
}

#[test]
fn a_call_without_an_end_is_closed_after_the_limit() {
    needs_root!();
    let script = script();
    let log = World::new().record(&["--mark-limit", "1s"], &["python3", &script, "aged"]);
    is_of(&log, 1, "new", "window");
    assert_eq!(counter(&log, "calls_unended"), 1);
}

#[test]
fn ten_thousand_calls_are_open_at_a_time() {
    needs_root!();
    let log = World::new().play(&["many", "10000"]);
    is_of(&log, 1, "c-9999", "exact");
    is_nobodys(&log, 2);
    assert_eq!(counter(&log, "calls_begun"), 10_000);
    assert_eq!(counter(&log, "mark_no_room"), 0);
}

#[test]
fn what_finds_no_room_is_refused_and_told() {
    needs_root!();
    let script = script();
    let log = World::new().record(&["--mark-calls", "20"], &["python3", &script, "full"]);
    // It works for one that there was no room for.
    let told = tool(&log, 1);
    assert_eq!(told["attribution"], "ambiguous", "{told}");
    assert_eq!(told["among_cut"], true, "{told}");
    let among = told["among"].as_array().unwrap();
    assert!(among.iter().any(|call| call["call_id"] == "c-19"), "{told}");
    assert_eq!(counter(&log, "mark_no_room"), 30);
    let gaps: Vec<_> = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "tools")
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["lost"], 30);
    assert_eq!(gaps[0]["severity"], "detail");
}

#[test]
fn spans_that_find_no_room_are_told() {
    needs_root!();
    let script = script();
    let options = ["--otlp", "127.0.0.1:4318"];
    let log = World::new().record(&options, &["python3", &script, "spans", "9000"]);
    let gaps: Vec<_> = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "tools")
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["lost"], 9000 - 8192);
    assert_eq!(gaps[0]["severity"], "detail");
    is_nobodys(&log, 1);
}

#[test]
fn garbage_is_refused_and_stops_nobody() {
    needs_root!();
    let log = World::new().play(&["garbage"]);
    is_of(&log, 1, "b", "exact");
    // Thirteen kinds, twenty times each, and one with descriptors; some that hung up were not read.
    let malformed = counter(&log, "mark_malformed");
    assert!(malformed >= 261, "{malformed}");
}

#[test]
fn beyond_the_number_of_connections_they_are_closed() {
    needs_root!();
    let script = script();
    let world = World::new();
    let log = world.record(&["--mark-connections", "4"], &["python3", &script, "crowd"]);
    is_of(&log, 1, "c", "exact");
    assert_eq!(counter(&log, "mark_connections"), 4);
    assert_eq!(counter(&log, "mark_connections_refused"), 6);
}

#[test]
fn what_is_registered_is_in_the_log_once() {
    needs_root!();
    let world = World::new();
    let log = world.play(&["hello"]);
    let all = |key: &str| -> Vec<String> {
        let lists = log
            .of_type("registered")
            .filter_map(|record| record[key].as_array());
        let names = lists
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned());
        names.collect()
    };
    let named = all("tools");
    assert_eq!(named[..3], ["Used", "Never", "Later"]);
    assert_eq!(named.len(), 1003);
    assert_eq!(all("models"), ["gpt"]);
    assert_eq!(all("retrievers"), ["faiss"]);
    assert_eq!(all("called"), ["Used"]);

    let out = world.path("out/flows.jsonl");
    let mut coverage = Command::new(egress_tracer().unwrap());
    let told = lab::output(coverage.arg("coverage").arg(out)).unwrap();
    assert!(
        told.contains("tools never called: Later, Never, t0-0"),
        "{told}"
    );
    assert!(told.contains("models never called: gpt"), "{told}");
}
