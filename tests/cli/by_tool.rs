//! Decisions for one of the agent's tools: what is proposed, what is drift, what rules cannot say.

use crate::world::{Ran, World, flow, whole};

fn by(tool: &str, attribution: &str) -> String {
    format!(r#","tool":{{"name":"{tool}","attribution":"{attribution}"}}"#)
}

const POLICY: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n\
    [[allow]]\nto = \"192.0.2.1\"\nports = [\"443/tcp\"]\ntools = [\"Search\"]\n\
    status = \"approved\"\nreason = \"the search index\"\nowner = \"o\"\nexpires = 2027-06-01\n";

/// A policy for one tool, and a log in which this tool went there, and the same as another.
fn world(tool: &str) -> World {
    let world = World::new();
    world.write("policy.toml", POLICY);
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, tool)));
    world
}

fn diff(world: &World) -> Ran {
    world.run(&["diff", "policy.toml", "log.jsonl", "--now", "2026-11-22"])
}

#[test]
fn what_is_approved_for_a_tool_is_drift_for_another() {
    for attribution in ["exact", "process", "window"] {
        diff(&world(&by("Search", attribution))).exits(0);
    }
    let other = diff(&world(&by("Browse", "exact"))).exits(1);
    other
        .shows("changed: 1")
        .shows("for tool Browse")
        .shows("for tool Search")
        .shows("stale: 1");
    // Who it was is not known: nobody has approved that.
    for unknown in [by("Search", "ambiguous"), String::new()] {
        diff(&world(&unknown)).exits(1).shows("changed: 1");
    }
}

#[test]
fn a_denial_for_a_tool_is_no_denial_for_others() {
    let denied = POLICY
        .replace("approved", "denied")
        .replace("expires = 2027-06-01\n", "");
    let any = POLICY
        .split("[[allow]]")
        .nth(1)
        .unwrap()
        .replace("tools = [\"Search\"]\n", "");
    let policy = format!("{denied}[[allow]]{any}");
    let with = |tool: &str| {
        let world = world(&by(tool, "exact"));
        world.write("policy.toml", &policy);
        diff(&world)
    };
    with("Search").exits(1).shows("denied: 1");
    with("Browse").exits(0);
}

#[test]
fn a_new_tool_becomes_a_candidate_beside_the_approval() {
    let world = world(&by("Search", "exact"));
    let generate = ["log.jsonl", "-o", "policy.toml"];
    world.generate(&generate).exits(0);
    assert_eq!(world.read("policy.toml"), POLICY);
    let flows: String = ["Search", "Browse", "Code"]
        .map(|tool| flow("w", "192.0.2.1", 443, &by(tool, "exact")))
        .concat();
    world.write(
        "log.jsonl",
        whole(
            "w",
            &(flows + &flow("w", "198.51.100.1", 443, &by("Code", "exact"))),
        ),
    );
    world.generate(&generate).exits(0);
    let text = world.read("policy.toml");
    assert!(text.starts_with(POLICY.trim_end()), "{text}");
    for tool in ["Browse", "Code"] {
        assert!(
            text.contains(&format!("tools = [\"{tool}\"]\nstatus = \"candidate\"")),
            "{text}"
        );
    }
    // Where the policy names no tools, candidates are for any.
    let rest = text.split("to = \"198.51.100.1\"").nth(1).unwrap();
    assert!(!rest.contains("tools"), "{text}");
    world.generate(&generate).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    // Who it was is not known: a candidate for any tool.
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    world.generate(&generate).exits(0);
    let text = world.read("policy.toml");
    assert_eq!(text.matches("to = \"192.0.2.1\"").count(), 4, "{text}");
}

#[test]
fn replay_says_which_rules_only_rules_per_tool_hold() {
    let replay =
        |world: &World| world.run(&["replay", "policy.toml", "log.jsonl", "--now", "2026-11-22"]);
    let ran = replay(&world(&by("Search", "exact"))).exits(0);
    ran.shows("approved for a tool, which only rules per tool can tell")
        .shows("tool Search");
    replay(&world(&by("Browse", "exact")))
        .exits(1)
        .shows("1 denied")
        .shows("tool Browse");
}

#[test]
fn the_evidence_says_for_which_tool() {
    let world = World::new();
    world.write(
        "log.jsonl",
        whole("w", &flow("w", "192.0.2.1", 443, &by("Search", "exact"))),
    );
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let evidence: serde_json::Value =
        serde_json::from_str(&world.read("policy.evidence.json")).unwrap();
    assert_eq!(evidence["destinations"][0]["tool"], "Search");
    assert!(!world.read("policy.toml").contains("tools"));
}
