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

/// A flow of one of these tools' calls.
fn among(tools: &[&str], more: &str) -> String {
    let call = |tool: &&str| format!(r#"{{"name":"{tool}","call_id":"c-{tool}"}}"#);
    let calls: Vec<String> = tools.iter().map(call).collect();
    let calls = calls.join(",");
    format!(r#","tool":{{"attribution":"ambiguous","among":[{calls}]{more}}}"#)
}

#[test]
fn what_may_have_been_several_tools_is_no_tools_alone() {
    let replay =
        |world: &World| world.run(&["replay", "policy.toml", "log.jsonl", "--now", "2026-11-22"]);
    // All of those that it may have been may go there.
    let both = POLICY.replace("[\"Search\"]", "[\"Search\", \"Browse\"]");
    let each = POLICY.split("[[allow]]").nth(1).unwrap();
    let each = format!("{POLICY}[[allow]]{}", each.replace("Search", "Browse"));
    for policy in [both, each] {
        let world = world(&among(&["Browse", "Search"], ""));
        world.write("policy.toml", policy);
        diff(&world).exits(0);
        replay(&world).exits(0);
    }
    // One of them may not, or it may have been somebody else, or none.
    let either = world(&among(&["Browse", "Search"], ""));
    diff(&either).exits(1).shows("for tool Browse or Search");
    replay(&either).exits(1).shows("tool Browse or Search");
    for more in [r#","among_cut":true"#, r#","or_none":true"#] {
        let world = world(&among(&["Search"], more));
        diff(&world).exits(1).shows("changed: 1");
        replay(&world).exits(1).shows("1 denied");
    }
    // Two calls of one tool are that tool's, whichever it was.
    let same = world(&among(&["Search", "Search"], ""));
    diff(&same).exits(0);
    replay(&same).exits(0);
}

#[test]
fn coverage_tells_what_is_certainly_a_tools_own() {
    let world = World::new();
    let flows = flow("w", "192.0.2.1", 443, &among(&["Browse", "Search"], ""))
        + &flow("w", "192.0.2.2", 443, &by("Search", "exact"))
        + &flow(
            "w",
            "192.0.2.3",
            443,
            &among(&["Code"], r#","or_none":true"#),
        );
    world.write("log.jsonl", whole("w", &flows));
    let ran = world.run(&["coverage", "log.jsonl"]).exits(0);
    assert!(!ran.out.contains("tool Code"), "{}", ran.out);
    ran.shows("tool Browse: 1 destination(s), 0 certainly its own")
        .shows("tool Search: 2 destination(s), 1 certainly its own");
}

#[test]
fn findings_tell_who_else_went_there_and_what_was_outside_of_tools() {
    let list = |tool: &str| {
        let world = world(tool);
        let known = flow("w", "192.0.2.9", 443, &by("Search", "exact"));
        let flows = flow("w", "192.0.2.1", 443, tool)
            + &flow("w", "192.0.2.1", 443, &by("Search", "exact"))
            + &known;
        world.write("log.jsonl", whole("w", &flows));
        world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
        let ran = world.run(&[
            "policy",
            "list",
            "policy.toml",
            "--json",
            "--now",
            "2026-11-22",
        ]);
        let rows: serde_json::Value = serde_json::from_str(&ran.exits(0).out).unwrap();
        let rows = rows.as_array().unwrap().iter();
        let row = rows.filter(|row| row["to"] == "192.0.2.1" && row["status"] == "approved");
        row.map(|row| row["findings"].to_string())
            .collect::<String>()
    };
    let (other, outside) = ("other-tool", "outside-tools");
    let found = list(&by("Search", "exact"));
    assert!(
        !found.contains(other) && !found.contains(outside),
        "{found}"
    );
    for tool in [by("Browse", "exact"), among(&["Browse", "Search"], "")] {
        let found = list(&tool);
        assert!(found.contains(other) && !found.contains(outside), "{found}");
    }
    let found = list("");
    assert!(!found.contains(other) && found.contains(outside), "{found}");
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
fn what_cannot_tell_tools_says_so_and_opens_nothing() {
    let world = world("");
    let any = POLICY
        .replace("tools = [\"Search\"]\n", "")
        .replace("192.0.2.1", "192.0.2.2");
    let any = any.split("[[allow]]").nth(1).unwrap();
    world.write("policy.toml", format!("{POLICY}[[allow]]{any}"));
    let render = |more: &[&str]| {
        let words = [
            "render",
            "policy.toml",
            "--now",
            "2026-11-22",
            "--verdict",
            "drop",
        ];
        world.run(&[&words, more].concat())
    };
    let why = "192.0.2.1: for Search alone, which is documentation only";
    for format in ["nftables", "iptables", "squid", "json"] {
        let ran = render(&["--format", format])
            .exits(0)
            .says(why)
            .shows("192.0.2.2");
        let opens = ran.out.matches("192.0.2.1").count() - ran.out.matches(why).count();
        assert_eq!(opens, 0, "{format}: {}", ran.out);
        render(&["--format", format, "--exact"]).exits(1);
        if format != "nftables" {
            let per_tool = ["--format", format, "--cgroup", "a", "--per-tool"];
            let refused = render(&per_tool).exits(2);
            assert!(refused.out.is_empty(), "{}", refused.out);
        }
    }
    let per_tool = ["--format", "nftables", "--per-tool"];
    render(&per_tool).exits(2).says("--cgroup");
    let ran = render(&[&per_tool[..], &["--cgroup", "a.slice", "--exact"]].concat()).exits(0);
    ran.says("what runs in the tool's cgroup")
        .shows("socket cgroupv2 level 2 \"a.slice/tool-Search\" jump egress_tool1")
        .shows("192.0.2.1 . tcp . 443");
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
