//! Entries by name: what is proposed, what is decided, and what covers what.

use crate::world::{World, flow, whole};

/// One name of a flow.
fn name(name: &str, source: &str, confidence: &str) -> String {
    format!("{{\"name\":\"{name}\",\"source\":\"{source}\",\"confidence\":\"{confidence}\"}}")
}

/// A flow to port 443 with names.
fn named(ip: &str, names: &[String]) -> String {
    let names = format!(",\"names\":[{}],\"comm\":\"agent\"", names.join(","));
    flow("w", ip, 443, &names)
}

fn proven(ip: &str, text: &str) -> String {
    named(
        ip,
        &[name(text, "dns", "proven"), name(text, "sni", "proven")],
    )
}

fn claimed(ip: &str, text: &str) -> String {
    named(ip, &[name(text, "sni", "claimed")])
}

/// Each way in which a flow comes by its names.
fn every_way() -> String {
    let shared = [
        name("b.example", "dns", "shared"),
        name("c.example", "dns", "shared"),
    ];
    let fronted = [
        name("d.example", "dns", "resolved"),
        name("evil.example", "sni", "claimed"),
    ];
    [
        proven("198.51.100.1", "a.example"),
        proven("198.51.100.2", "a.example"),
        named("198.51.100.3", &shared),
        claimed("198.51.100.4", "a.example"),
        named("198.51.100.5", &fronted),
        flow("w", "198.51.100.6", 443, ""),
        proven("169.254.169.254", "rebound.example"),
    ]
    .concat()
}

fn entries(policy: &str) -> Vec<&str> {
    let to = |line: &'_ str| line.starts_with("to = ");
    let lines = policy.lines().filter(|line| to(line));
    lines.filter_map(|line| line.split('"').nth(1)).collect()
}

fn findings(world: &World, entry: &str) -> Vec<String> {
    let ran = world
        .run(&["policy", "list", "policy.toml", "--json"])
        .exits(0);
    let rows: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let rows = rows["entries"].as_array().or(rows.as_array()).unwrap();
    let row = rows.iter().find(|row| row["to"] == entry).unwrap();
    let found = row["findings"].as_array().unwrap().iter();
    found
        .map(|each| each["id"].as_str().unwrap().to_owned())
        .collect()
}

fn approve(world: &World, entries: &[&str]) {
    let decided = [
        "--reason",
        "wanted by somebody",
        "--owner",
        "o",
        "--now",
        "2026-11-22",
    ];
    let words = [&["policy", "approve", "policy.toml"], entries, &decided].concat();
    world.run(&words).exits(0);
}

#[test]
fn each_confidence_gives_its_entry_and_finding() {
    let world = World::new();
    world.write("log.jsonl", whole("w", &every_way()));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let policy = world.read("policy.toml");
    let expected = [
        "169.254.169.254",
        "198.51.100.4",
        "198.51.100.6",
        "a.example",
        "b.example",
        "c.example",
        "d.example",
    ];
    assert_eq!(entries(&policy), expected, "{policy}");
    for (entry, finding) in [
        ("169.254.169.254", "metadata-service"),
        ("198.51.100.4", "claimed-name"),
        ("198.51.100.6", "literal-address"),
        ("b.example", "shared-address"),
        ("d.example", "name-mismatch"),
    ] {
        let found = findings(&world, entry);
        assert!(
            found.iter().any(|each| each == finding),
            "{entry}: {found:?}"
        );
    }
    for (entry, finding) in [
        ("a.example", "claimed-name"),
        ("a.example", "shared-address"),
        ("a.example", "name-mismatch"),
        ("198.51.100.6", "claimed-name"),
    ] {
        let found = findings(&world, entry);
        assert!(
            found.iter().all(|each| each != finding),
            "{entry}: {found:?}"
        );
    }
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    assert_eq!(world.read("policy.toml"), policy);
    world
        .generate(&["log.jsonl", "--by", "address", "-o", "by-address.toml"])
        .exits(0);
    let by_address = world.read("by-address.toml");
    assert_eq!(entries(&by_address).len(), 7, "{by_address}");
    assert!(!by_address.contains(".example\""), "{by_address}");
}

#[test]
fn an_approved_name_covers_its_addresses_and_no_claim() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole("w", &proven("198.51.100.1", "a.example")),
    );
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    approve(&world, &["a.example"]);
    let later = [
        proven("203.0.113.9", "a.example"),
        claimed("203.0.113.66", "a.example"),
        proven("203.0.113.7", "other.example"),
        proven("203.0.113.8", "other.example"),
    ];
    world.write("later.jsonl", whole("w", &later.concat()));
    let now = ["--now", "2026-11-22"];
    let diff = [&["diff", "policy.toml", "later.jsonl"][..], &now].concat();
    let ran = world.run(&diff).exits(1);
    let ran = ran.shows("new: 2").shows("203.0.113.66 443/tcp");
    // All the addresses of a name are one difference.
    let ran = ran
        .shows("other.example 443/tcp  2 time(s) in 1 run(s) by agent at 203.0.113.7 and 1 more");
    assert!(!ran.out.contains("203.0.113.9"), "{}", ran.out);
    let replay = [&["replay", "policy.toml", "later.jsonl"][..], &now].concat();
    let ran = world.run(&replay).exits(1).shows("1 allowed, 3 denied");
    ran.shows("203.0.113.66 443/tcp")
        .shows("203.0.113.7 (other.example) 443/tcp");
    // A denied address is denied under any name.
    let denied = "[[allow]]\nto = \"203.0.113.9\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\n";
    world.write("policy.toml", world.read("policy.toml") + denied);
    world.run(&diff).exits(1).shows("denied: 1");
    world.run(&replay).exits(1).shows("0 allowed, 4 denied");
}

#[test]
fn what_was_decided_by_address_is_not_asked_again_by_name() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole("w", &proven("198.51.100.1", "a.example")),
    );
    let by_address = ["log.jsonl", "--by", "address", "-o", "policy.toml"];
    world.generate(&by_address).exits(0);
    approve(&world, &["198.51.100.1"]);
    let decided = world.read("policy.toml");
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    assert_eq!(world.read("policy.toml"), decided);
    // The name has moved: that is news, and the decision stays.
    world.write(
        "moved.jsonl",
        whole("w", &proven("198.51.100.2", "a.example")),
    );
    let both = ["log.jsonl", "moved.jsonl", "-o", "policy.toml"];
    world.generate(&both).exits(0);
    let moved = world.read("policy.toml");
    assert_eq!(entries(&moved), ["198.51.100.1", "a.example"]);
    assert!(moved.starts_with(decided.trim_end()), "{moved}");
    world.generate(&both).exits(0);
    assert_eq!(world.read("policy.toml"), moved);
}

#[test]
fn a_candidate_that_goes_by_name_now_is_stale() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole("w", &proven("198.51.100.1", "a.example")),
    );
    let by_address = ["log.jsonl", "--by", "address", "-o", "policy.toml"];
    world.generate(&by_address).exits(0);
    let by_name = ["log.jsonl", "-o", "policy.toml"];
    let ran = world.generate(&by_name).exits(0);
    ran.says("stale: 198.51.100.1 (candidate) not seen");
    assert_eq!(
        entries(&world.read("policy.toml")),
        ["198.51.100.1", "a.example"]
    );
    world
        .generate(&[&by_name[..], &["--prune"]].concat())
        .exits(0);
    assert_eq!(entries(&world.read("policy.toml")), ["a.example"]);
}

#[test]
fn the_addresses_of_a_name_are_one_destination() {
    let world = World::new();
    for run in 0..20 {
        let flow = proven(&format!("198.51.100.{run}"), "a.example");
        let log = whole("w", &flow).replace("\"run\":\"r1\"", &format!("\"run\":\"r{run}\""));
        world.write(&format!("logs/{run}.jsonl"), log);
    }
    let ran = world.run(&["coverage", "logs"]).exits(0);
    ran.shows("1 destinations in 20 run(s)");
    world.generate(&["logs", "-o", "policy.toml"]).exits(0);
    let found = findings(&world, "a.example");
    assert!(!found.iter().any(|each| each == "one-run"), "{found:?}");
}

#[test]
fn candidate_rules_by_address_hold_what_was_seen_and_say_so() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole("w", &proven("198.51.100.1", "a.example")),
    );
    let said = "a.example 443/tcp: rules by address hold those that it was seen to have";
    let ran = world
        .generate(&["log.jsonl", "--format", "nftables"])
        .exits(0);
    ran.shows("198.51.100.1 . tcp . 443").says(said);
    let ran = world.generate(&["log.jsonl", "--format", "nftables", "--name-sets"]);
    let ran = ran
        .exits(0)
        .shows("set names4_tcp_443_a_example_")
        .shows("flags timeout");
    assert!(!ran.out.contains("198.51.100.1"), "{}", ran.out);
    world
        .generate(&["log.jsonl", "--format", "domains"])
        .exits(0)
        .shows("a.example");
}
