//! Evidence with holes: when it is refused, and what is said when it is not.

use std::fs::File;

use crate::world::{World, flow, gap, rotate, start, stop, whole};

const REFUSED: i32 = 3;

#[test]
fn a_recording_that_nobody_closed_is_refused() {
    let world = World::new();
    world.write("flows.jsonl", start("w") + &flow("w", "10.0.0.1", 1, ""));
    let ran = world
        .generate(&["flows.jsonl", "-o", "out/"])
        .exits(REFUSED);
    assert!(ran.says("neither rotate nor stop").out.is_empty());
    assert!(!world.exists("out"));
}

#[test]
fn allowing_it_marks_everything_and_a_complete_run_unmarks_it() {
    let world = World::new();
    let log = start("w") + &flow("w", "10.0.0.1", 1, "");
    world.write("flows.jsonl", &log);
    world
        .generate(&["flows.jsonl", "-o", "out/", "--allow-incomplete"])
        .exits(0);
    assert!(
        world
            .read("out/policy.toml")
            .starts_with("# INCOMPLETE EVIDENCE")
    );
    assert!(
        world
            .read("out/policy.evidence.json")
            .contains("\"complete\": false")
    );
    assert!(
        world
            .read("out/rules.nft")
            .contains("neither rotate nor stop")
    );
    world.write("flows.jsonl", log + &stop("w"));
    world.generate(&["flows.jsonl", "-o", "out/"]).exits(0);
    assert!(!world.read("out/policy.toml").contains("INCOMPLETE"));
    assert!(
        world
            .read("out/policy.evidence.json")
            .contains("\"complete\": true")
    );
}

#[test]
fn a_segment_that_its_writer_holds_is_complete_so_far() {
    let world = World::new();
    let whole_lines = start("w") + &flow("w", "10.0.0.1", 1, "");
    let path = world.write(
        "flows.jsonl",
        whole_lines.clone() + "{\"type\":\"flow\",\"sch",
    );
    let writer = File::open(path).unwrap();
    writer.lock().unwrap();
    let ran = world.generate(&["flows.jsonl", "-o", "a/"]).exits(0);
    assert!(ran.err.is_empty(), "{}", ran.err);
    // The half-written line is not part of the evidence.
    let path = world.write("b.jsonl", whole_lines);
    let other_writer = File::open(path).unwrap();
    other_writer.lock().unwrap();
    world.generate(&["b.jsonl", "-o", "b/"]).exits(0);
    assert_eq!(
        world.read("a/policy.evidence.json"),
        world.read("b/policy.evidence.json")
    );
    drop(writer);
    world.generate(&["flows.jsonl"]).exits(REFUSED);
}

#[test]
fn a_restart_after_a_crash_needs_a_gap_that_tells_of_it() {
    let world = World::new();
    let crashed = start("w") + &flow("w", "10.0.0.1", 1, "") + &start("w");
    world.write("silent.jsonl", crashed.clone() + &stop("w"));
    world.write(
        "told.jsonl",
        crashed + &gap("w", "downtime", "detail") + &stop("w"),
    );
    world.generate(&["silent.jsonl"]).exits(REFUSED);
    world
        .generate(&["told.jsonl"])
        .exits(0)
        .says("note: w: 1 gap record(s)");
}

#[test]
fn lost_destinations_are_refused_for_their_workload_alone() {
    let world = World::new();
    let lossy = flow("a", "10.0.0.1", 1, "") + &gap("a", "flow-table", "destinations");
    world.write(
        "log.jsonl",
        whole("a", &lossy) + &whole("b", &flow("b", "10.0.0.2", 1, "")),
    );
    world
        .generate(&["log.jsonl", "--workload", "a"])
        .exits(REFUSED)
        .says("flow table was full (1 gap record(s), 3 lost)");
    world.generate(&["log.jsonl", "--workload", "b"]).exits(0);
}

#[test]
fn a_gap_of_a_later_versions_kind_counts_by_its_severity() {
    let world = World::new();
    for (name, severity) in [("lossy.jsonl", "destinations"), ("vague.jsonl", "detail")] {
        let seen = flow("a", "10.0.0.1", 1, "") + &gap("a", "solar-flare", severity);
        world.write(name, whole("a", &seen));
    }
    world
        .generate(&["lossy.jsonl"])
        .exits(REFUSED)
        .says("something that this version does not know: solar-flare (1 gap record(s), 3 lost)");
    world
        .generate(&["vague.jsonl"])
        .exits(0)
        .says("note: a: 1 gap record(s)");
    let kinds: String = (0..200)
        .map(|kind| gap("a", &format!("\\u001b[31m{kind}"), "destinations"))
        .collect();
    let hostile = flow("a", "10.0.0.1", 1, "") + &kinds;
    world.write("hostile.jsonl", whole("a", &hostile));
    world
        .generate(&["hostile.jsonl"])
        .exits(REFUSED)
        .says("does not know: more");
}

#[test]
fn a_missing_segment_is_worth_a_note() {
    let world = World::new();
    let first = start("w") + &flow("w", "10.0.0.1", 1, "") + &rotate("w", "flows.2.jsonl");
    world.write("flows.1.jsonl", first);
    world
        .generate(&["flows.1.jsonl"])
        .exits(0)
        .says("flows.2.jsonl, which is not among the inputs");
    let second = flow("w", "10.0.0.2", 1, "") + &stop("w");
    world.write(
        "flows.2.jsonl.zst",
        zstd::encode_all(second.as_bytes(), 3).unwrap(),
    );
    let ran = world.generate(&["."]).exits(0);
    assert!(ran.err.is_empty(), "{}", ran.err);
}

#[test]
fn more_destinations_than_the_maximum_are_counted_and_refused() {
    let world = World::new();
    let flows: String = (1..=5)
        .map(|n| flow("w", &format!("10.0.0.{n}"), 1, ""))
        .collect();
    world.write("log.jsonl", whole("w", &flows));
    world
        .generate(&["log.jsonl", "--max-destinations", "2"])
        .exits(REFUSED)
        .says("3 record(s) about destinations beyond the maximum");
}
