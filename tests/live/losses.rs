//! Too little room: everything is counted or told to be lost, and nobody else pays.

use std::fs;

use lab::{Cgroup, Daemon, Log};

use crate::world::{World, lost, missing, needs_root, total};

const TINY_TABLE: [&str; 4] = ["--table-entries", "64", "--cgroup-quota", "64"];

#[test]
fn what_a_tiny_table_refuses_is_told_to_the_last_datagram() {
    needs_root!();
    let world = World::new();
    let log = world.record_with(&TINY_TABLE, "fork 3 flood 203.0.113.1 1 20000 ::");
    assert_eq!(total(&log) + lost(&log), 60_000);
    assert!(lost(&log) > 0);
    for gap in missing(&log) {
        assert_eq!(gap["workload"], "sample-agent", "{gap}");
    }
}

#[test]
fn evidence_with_a_hole_makes_nothing_unless_it_is_asked_for() {
    needs_root!();
    let world = World::new();
    world.record_with(&TINY_TABLE, "flood 203.0.113.1 1 5000");
    let ran = world.generate(&["out", "-o", "made.toml"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(!world.path("made.toml").exists());
    assert!(!world.path("made.evidence.json").exists());
    let ran = world.generate(&["out", "-o", "made.toml", "--allow-incomplete"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let evidence = fs::read_to_string(world.path("made.evidence.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_str(&evidence).unwrap();
    assert_eq!(evidence["complete"], false);
}

#[test]
fn a_tiny_ring_costs_no_count() {
    needs_root!();
    let world = World::new();
    let log = world.record_with(
        &["--ring-bytes", "4096"],
        "fork 2 flood 203.0.113.1 1 5000 ::",
    );
    assert_eq!(total(&log), 10_000);
    assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
    assert!(
        log.of_type("gap").next().is_some(),
        "the ring was no bottleneck"
    );
    assert_eq!(world.generate(&["out", "-o", "made.toml"]).code, Some(0));
}

#[test]
fn a_flood_costs_the_neighbour_nothing() {
    needs_root!();
    let world = World::new();
    let (loud, quiet) = (Cgroup::new("loud").unwrap(), Cgroup::new("quiet").unwrap());
    let (loud_name, quiet_name) = (loud.relative(), quiet.relative());
    let output = world.path("daemon");
    let daemon = Daemon::start(
        &output,
        &[
            "--cgroup",
            &loud_name,
            "--cgroup",
            &quiet_name,
            "--cgroup-quota",
            "64",
        ],
    )
    .unwrap();
    for round in 1..=10 {
        world.act(&quiet, &format!("flood 203.0.113.2 {round} {round}"));
        world.act(&loud, "fork 2 flood 203.0.113.1 1 5000 ::");
    }
    daemon.stop().unwrap();
    let log = |name: &str| Log::read(&output.join(&name[1..]).join("flows.jsonl")).unwrap();
    let (loud, quiet) = (log(&loud_name), log(&quiet_name));
    assert_eq!(total(&loud) + lost(&loud), 100_000);
    assert!(lost(&loud) > 0);
    assert_eq!(total(&quiet), 10);
    assert_eq!(missing(&quiet), Vec::<&serde_json::Value>::new());
    assert!(!output.join("host").exists());
}
