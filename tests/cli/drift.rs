//! `diff`: what was observed against what was approved, in every form.

use crate::world::{Ran, World, flow, gap, whole};

const HEAD: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";

fn entry(to: &str, port: &str, status: &str) -> String {
    let decided = match status {
        "candidate" => String::new(),
        denied @ "denied" => format!("reason = \"no {denied} things\"\nowner = \"o\"\n"),
        expires => {
            let status = format!("reason = \"some reason\"\nowner = \"o\"\nexpires = {expires}\n");
            return format!(
                "[[allow]]\nto = \"{to}\"\nports = [\"{port}\"]\nstatus = \"approved\"\n{status}"
            );
        }
    };
    format!("[[allow]]\nto = \"{to}\"\nports = [\"{port}\"]\nstatus = \"{status}\"\n{decided}")
}

/// A policy and a log with one difference of each kind, and one that is none.
fn world() -> World {
    let world = World::new();
    let entries = [
        entry("192.0.2.1", "443/tcp", "2027-06-01"),
        entry("192.0.2.2", "443/tcp", "denied"),
        entry("192.0.2.3", "443/tcp", "candidate"),
        entry("192.0.2.4", "443/tcp", "2026-11-01"),
        entry("192.0.2.5", "443/tcp", "2026-11-30"),
        entry("192.0.2.6", "443/tcp", "2027-06-01"),
        entry("198.51.100.0/24", "443/tcp", "2027-06-01"),
    ];
    world.write("policy.toml", HEAD.to_owned() + &entries.concat());
    let flows: String = [1, 2, 3, 4, 5, 9]
        .map(|n| flow("w", &format!("192.0.2.{n}"), 443, ",\"comm\":\"agent\""))
        .concat();
    let more = flow("w", "198.51.100.7", 443, "") + &flow("w", "192.0.2.1", 8443, "");
    world.write("log.jsonl", whole("w", &(flows + &more)));
    world
}

fn diff(world: &World, more: &[&str]) -> Ran {
    let words = ["diff", "policy.toml", "log.jsonl", "--now", "2026-11-22"];
    world.run(&[&words[..], more].concat())
}

#[test]
fn every_kind_of_drift_is_told() {
    let world = world();
    let ran = diff(&world, &[]).exits(1).says("5 difference(s)");
    let expected = [
        "denied: 1",
        "  192.0.2.2 443/tcp  1 time(s) in 1 run(s) by agent, last 2026-11-22T10:00:01Z; denied because: no denied things",
        "new: 1",
        "  192.0.2.9 443/tcp",
        "changed: 1",
        "  192.0.2.1 8443/tcp  1 time(s) in 1 run(s), last 2026-11-22T10:00:01Z; approved there: 443/tcp",
        "unreviewed: 1",
        "  192.0.2.3 443/tcp",
        "expired: 1",
        "  192.0.2.4 443/tcp",
        "expiring: 1",
        "  192.0.2.5 443/tcp  approved until 2026-11-30",
        "stale: 1",
        "  192.0.2.6 443/tcp  approved, and not observed",
    ];
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{}", ran.out);
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{expected}: {line}");
    }
}

#[test]
fn what_is_rewritten_to_an_unapproved_place_is_drift() {
    let world = World::new();
    let rewritten = ",\"translated\":{\"ip\":\"10.0.0.9\",\"port\":8443}";
    let flows = flow("w", "192.0.2.1", 443, rewritten);
    world.write("log.jsonl", whole("w", &flows));
    let approved = entry("192.0.2.1", "443/tcp", "2027-06-01");
    world.write("policy.toml", HEAD.to_owned() + &approved);
    let ran = diff(&world, &[]).exits(1).shows("changed: 1");
    assert!(
        ran.out
            .contains("left to 10.0.0.9:8443; approved there: 443/tcp")
    );
    let place = "translated = [\"443/tcp to 10.0.0.9:8443\"]\n";
    world.write("policy.toml", HEAD.to_owned() + &approved + place);
    diff(&world, &[]).exits(0);
    // Nothing left where it was asked to go, so what allows only that is of no use.
    let denied = entry("192.0.2.1", "443/tcp", "denied");
    world.write("policy.toml", HEAD.to_owned() + &denied);
    diff(&world, &[]).exits(1).shows("denied: 1");
}

#[test]
fn the_level_that_fails_is_a_flag() {
    let world = world();
    diff(&world, &["--fail-on", "never"]).exits(0);
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    diff(&world, &[]).exits(0).shows("stale: 3");
    diff(&world, &["--fail-on", "warning"]).exits(1);
    let quiet = diff(&world, &["--soon", "0"]).exits(0);
    assert!(!quiet.out.contains("expiring"), "{}", quiet.out);
}

#[test]
fn nothing_is_no_drift() {
    let world = World::new();
    world.write(
        "policy.toml",
        HEAD.to_owned() + &entry("192.0.2.1", "443/tcp", "2027-06-01"),
    );
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    let ran = diff(&world, &[]).exits(0);
    assert_eq!(ran.out, "no drift\n");
    for format in ["json", "markdown", "sarif", "junit", "github"] {
        diff(&world, &["--format", format]).exits(0);
    }
}

#[test]
fn every_format_tells_the_same() {
    let world = world();
    let json = diff(&world, &["--format", "json"]).exits(1).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["drift"].as_array().unwrap().len(), 7);
    assert_eq!(json["drift"][0]["kind"], "denied");
    let sarif = diff(&world, &["--format", "sarif"]).exits(1).out;
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 7);
    let line = &results[0]["locations"][0]["physicalLocation"]["region"]["startLine"];
    let policy = world.read("policy.toml");
    let place = usize::try_from(line.as_u64().unwrap()).unwrap();
    assert_eq!(policy.lines().nth(place), Some("to = \"192.0.2.2\""));
    let junit = diff(&world, &["--format", "junit"]).exits(1).out;
    assert!(junit.contains("tests=\"7\" failures=\"5\""), "{junit}");
    let github = diff(&world, &["--format", "github"]).exits(1).out;
    assert_eq!(github.matches("::error file=policy.toml,line=").count(), 5);
    assert_eq!(github.matches("::warning ").count(), 2);
    let markdown = diff(&world, &["--format", "markdown"]).exits(1).out;
    assert_eq!(
        markdown
            .lines()
            .filter(|line| line.starts_with("| **"))
            .count(),
        7
    );
}

#[test]
fn incomplete_evidence_is_no_answer() {
    let world = world();
    world.write(
        "log.jsonl",
        whole("w", &gap("w", "flow-table", "destinations")),
    );
    assert!(diff(&world, &[]).exits(3).out.is_empty());
    diff(&world, &["--allow-incomplete"]).exits(0);
    world.write("log.jsonl", whole("other", ""));
    diff(&world, &[])
        .exits(2)
        .says("no record of workload w; the input has other");
}

#[test]
fn two_policies_are_compared_by_what_they_say() {
    let world = world();
    let old = world.read("policy.toml");
    world.write("new.toml", format!("# moved\n{old}"));
    world.run(&["diff", "policy.toml", "new.toml"]).exits(0);
    world.write(
        "new.toml",
        old.replace("2027-06-01", "2027-07-01") + &entry("192.0.2.77", "1/tcp", "candidate"),
    );
    let ran = world.run(&["diff", "policy.toml", "new.toml"]).exits(1);
    let ran = ran.shows("- 192.0.2.1 443/tcp approved, until 2027-06-01, o: some reason\n");
    ran.shows("+ 192.0.2.77 1/tcp candidate\n");
    world
        .run(&["diff", "policy.toml", "new.toml", "log.jsonl"])
        .exits(2);
}
