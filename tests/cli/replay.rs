//! `replay`: what a policy would deny of what was seen.

use serde_json::Value;

use crate::world::{World, flow, whole};

const HEAD: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"shop\"\n";
const APPROVED: &str = "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\n\
                        approved = 2026-01-01\nexpires = 2026-02-01\n";

fn entry(to: &str, port: &str, rest: &str) -> String {
    format!("[[allow]]\nto = \"{to}\"\nports = [\"{port}\"]\n{rest}\n")
}

fn world() -> World {
    let world = World::new();
    let flows = flow("shop", "192.0.2.1", 443, "") + &flow("shop", "192.0.2.200", 443, "");
    world.write("log.jsonl", whole("shop", &flows));
    let candidate = "status = \"candidate\"";
    world.write(
        "policy.toml",
        HEAD.to_owned()
            + &entry("192.0.2.0/25", "443/tcp", APPROVED)
            + &entry("192.0.2.200", "443/tcp", candidate)
            + &entry("198.51.100.1", "443/tcp", APPROVED)
            + &entry("api.example", "443/tcp", APPROVED),
    );
    world
}

fn replay(world: &World, code: i32, arguments: &[&str]) -> Value {
    let base = ["replay", "policy.toml", "log.jsonl", "--json"];
    let ran = world.run(&[&base, arguments].concat()).exits(code);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn what_is_not_approved_is_denied() {
    let world = world();
    let now = ["--now", "2026-01-15"];
    let report = replay(&world, 1, &now);
    assert_eq!(report["schema"], "egress-tracer/replay/1");
    assert_eq!(report["allowed"], 1);
    assert_eq!(report["denied"][0]["to"], "192.0.2.200");
    assert_eq!(report["unused"][0]["to"], "198.51.100.1/32");
    assert_eq!(report["also_open"][0]["opened"], "128");
    assert_eq!(report["by_name"][0], "api.example 443/tcp");
    let ran = world
        .run(&[&["replay", "policy.toml", "log.jsonl"], &now[..]].concat())
        .exits(1)
        .says("1 of 2 observed destination(s) would be denied");
    assert!(ran.out.contains("would be denied:\n  192.0.2.200 443/tcp"));
    assert!(
        ran.out
            .contains("192.0.2.0/25 443/tcp: 1 of 128 addresses observed")
    );
}

#[test]
fn an_approval_ends_with_its_day() {
    let world = world();
    let denied = |day: &str| {
        let report = replay(&world, 1, &["--now", day]);
        report["denied"].as_array().unwrap().len()
    };
    assert_eq!(denied("2026-02-01"), 1);
    assert_eq!(denied("2026-02-02"), 2);
}

#[test]
fn candidates_count_when_asked_for() {
    let report = replay(&world(), 0, &["--include-unreviewed"]);
    assert_eq!(report["denied"], Value::Array(Vec::new()));
}

#[test]
fn bases_count() {
    let world = world();
    world.write(
        "base.toml",
        HEAD.to_owned() + &entry("192.0.2.200", "443/tcp", APPROVED),
    );
    let include = "include = [\"base.toml\"]\n";
    let approved = entry("192.0.2.1", "443/tcp", APPROVED);
    world.write("policy.toml", HEAD.to_owned() + include + &approved);
    let report = replay(&world, 0, &["--now", "2026-01-15T12:00:00Z"]);
    assert_eq!(report["allowed"], 2);
    let denied = entry("192.0.2.200", "443/tcp", "status = \"denied\"");
    world.write(
        "policy.toml",
        HEAD.to_owned() + include + &approved + &denied,
    );
    let report = replay(&world, 1, &["--now", "2026-01-15"]);
    assert_eq!(report["denied"][0]["to"], "192.0.2.200");
}

#[test]
fn bad_input_is_told() {
    let world = world();
    world.run(&["replay", "none.toml", "log.jsonl"]).exits(2);
    world
        .run(&["replay", "policy.toml"])
        .exits(2)
        .says("no INPUT");
    world.write("policy.toml", "schema = \"egress-tracer/policy/1\"\n");
    world
        .run(&["replay", "policy.toml", "log.jsonl"])
        .exits(2)
        .says("workload");
}
