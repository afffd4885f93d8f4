//! An approval covers what was shown: another process there is news, and drift.

use crate::world::{Ran, World, flow, whole};

fn by(names: &[&str]) -> String {
    let one = |name: &&str| {
        flow(
            "w",
            "192.0.2.1",
            443,
            &format!(r#","exe":"/usr/bin/{name}""#),
        )
    };
    whole("w", &names.iter().map(one).collect::<String>())
}

fn approve(world: &World, entry: &str) -> Ran {
    let words = [
        "policy",
        "approve",
        "policy.toml",
        entry,
        "--reason",
        "the model provider",
    ];
    world.run(&[&words[..], &["--owner", "o", "--now", "2026-11-22"]].concat())
}

/// A policy in which curl's connections are approved.
fn world() -> World {
    let world = World::new();
    world.write("log.jsonl", by(&["curl"]));
    world.generate(&GENERATE).exits(0);
    assert!(!world.read("policy.toml").contains("processes"));
    approve(&world, "192.0.2.1").exits(0);
    world
}

const GENERATE: [&str; 3] = ["log.jsonl", "-o", "policy.toml"];

fn diff(world: &World) -> Ran {
    world.run(&["diff", "policy.toml", "log.jsonl", "--now", "2026-11-22"])
}

#[test]
fn another_process_is_drift_and_a_candidate_beside_the_approval() {
    let world = world();
    let approved = world.read("policy.toml");
    assert!(approved.contains("processes = [\"curl\"]"), "{approved}");
    world.generate(&GENERATE).exits(0);
    assert_eq!(world.read("policy.toml"), approved);
    diff(&world).exits(0);
    world.write("log.jsonl", by(&["curl", "wget"]));
    let ran = diff(&world).exits(1).shows("changed: 1");
    ran.shows("by curl, wget")
        .shows("approved there: 443/tcp, by curl");
    world.generate(&GENERATE).exits(0);
    let text = world.read("policy.toml");
    assert!(text.starts_with(approved.trim_end()), "{text}");
    assert!(
        text.contains("processes = [\"wget\"]\nstatus = \"candidate\""),
        "{text}"
    );
    world.generate(&GENERATE).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    diff(&world).exits(1).shows("unreviewed: 1");
    // A third one joins the second.
    world.write("log.jsonl", by(&["curl", "wget", "nc"]));
    world.generate(&GENERATE).exits(0);
    let text = world.read("policy.toml");
    assert!(text.contains("processes = [\"wget\", \"nc\"]"), "{text}");
    assert!(!text.contains("translated"), "{text}");
    approve(&world, "192.0.2.1#2").exits(0);
    let text = world.read("policy.toml");
    world.generate(&GENERATE).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    diff(&world).exits(0);
}

#[test]
fn an_entry_without_processes_is_for_any() {
    let world = world();
    let text = world
        .read("policy.toml")
        .replace("processes = [\"curl\"]\n", "");
    world.write("policy.toml", &text);
    world.write("log.jsonl", by(&["wget"]));
    diff(&world).exits(0);
    world.generate(&GENERATE).exits(0);
    assert_eq!(world.read("policy.toml"), text);
}

#[test]
fn a_new_port_beside_a_new_process_is_for_whoever_asked() {
    let world = world();
    let wget = r#","exe":"/usr/bin/wget""#;
    let flows = flow("w", "192.0.2.1", 443, wget) + &flow("w", "192.0.2.1", 80, wget);
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&GENERATE).exits(0);
    let text = world.read("policy.toml");
    assert!(
        text.contains("ports = [\"80/tcp\", \"443/tcp\"]\nstatus = \"candidate\""),
        "{text}"
    );
    world.generate(&GENERATE).exits(0);
    assert_eq!(world.read("policy.toml"), text);
}
