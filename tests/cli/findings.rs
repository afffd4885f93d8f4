//! `--findings`: rules of one's own and exceptions, from the file to the decision.

use crate::world::{Ran, World, flow, whole};

const HEAD: &str = "schema = \"egress-tracer/findings/1\"\n";
const RULE: &str = "[[rule]]\nid = \"build-network\"\nseverity = \"critical\"\n\
                    reason = \"no business in the build network\"\ncidr = \"10.20.0.0/16\"\n";
const EXCEPT: &str = "[[except]]\nfinding = \"private-address\"\nto = \"10.20.0.*\"\n\
                      reason = \"our own mirror\"\nexpires = 2026-12-01\n";

fn world(findings: &str) -> World {
    let world = World::new();
    world.write("findings.toml", findings);
    let flows = flow("w", "10.20.0.5", 443, "") + &flow("w", "192.0.2.1", 443, "");
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    world
}

fn policy(world: &World, words: &[&str]) -> Ran {
    let more = ["--findings", "findings.toml", "--now", "2026-11-22"];
    world.run(&[&["policy"], words, &more].concat())
}

fn approve(world: &World, more: &[&str]) -> Ran {
    let words = [
        "approve",
        "policy.toml",
        "10.20.0.5",
        "--reason",
        "the mirror is there",
    ];
    policy(world, &[&words[..], &["--owner", "o"], more].concat())
}

#[test]
fn a_rule_of_ones_own_is_told_and_has_to_be_acknowledged() {
    let world = world(&format!("{HEAD}{RULE}"));
    policy(&world, &["list", "policy.toml"])
        .exits(0)
        .shows("build-network private-address");
    policy(&world, &["review", "policy.toml"])
        .exits(0)
        .shows("critical    build-network: no business in the build network");
    let before = world.read("policy.toml");
    approve(&world, &[])
        .exits(2)
        .says("no business in the build network To approve all the same");
    assert_eq!(world.read("policy.toml"), before);
    approve(&world, &["--acknowledge", "build-network"]).exits(0);
    let text = world.read("policy.toml");
    assert!(
        text.contains("acknowledged = [\"build-network\"]"),
        "{text}"
    );
    // Without the file nobody knows of it, and what was decided stands.
    world
        .run(&["policy", "list", "policy.toml"])
        .exits(0)
        .shows("build-network");
}

#[test]
fn an_exception_is_no_finding_and_is_shown_until_it_is_over() {
    let world = world(&format!("{HEAD}{EXCEPT}"));
    let ran = policy(&world, &["list", "policy.toml"]).exits(0);
    assert!(!ran.out.contains("private-address"), "{}", ran.out);
    policy(&world, &["review", "policy.toml"])
        .exits(0)
        .shows("excepted    private-address until 2026-12-01: our own mirror");
    let ran = policy(&world, &["list", "policy.toml", "--json"]).exits(0);
    let rows: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(rows[0]["excepted"][0]["id"], "private-address");
    let late = [
        "policy",
        "list",
        "policy.toml",
        "--findings",
        "findings.toml",
    ];
    world
        .run(&[&late[..], &["--now", "2026-12-02"]].concat())
        .exits(0)
        .shows("private-address")
        .says("expired on 2026-12-01");
}

#[test]
fn the_settings_file_may_name_it() {
    let world = world(&format!("{HEAD}{RULE}"));
    world.write("settings.toml", "[policy]\nfindings = \"findings.toml\"\n");
    world
        .run(&["--config", "settings.toml", "policy", "list", "policy.toml"])
        .exits(0)
        .shows("build-network");
}

#[test]
fn a_file_with_a_mistake_decides_nothing() {
    let world = world(&format!("{HEAD}{}", RULE.replace("cidr", "cdir")));
    let before = world.read("policy.toml");
    approve(&world, &[])
        .exits(2)
        .says("findings.toml: line 6: \"cdir\" is not a key that is known");
    assert_eq!(world.read("policy.toml"), before);
}
