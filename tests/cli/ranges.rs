//! `ranges update`, and the labels that come of it.

use crate::world::{World, flow, whole};

const AWS: &str = r#"{"createDate":"2025-07-24-20-23-14","prefixes":[
  {"ip_prefix":"3.5.0.0/19","region":"us-east-1","service":"AMAZON"},
  {"ip_prefix":"3.5.0.0/19","region":"us-east-1","service":"S3"}],"ipv6_prefixes":[]}"#;

#[test]
fn entries_are_labelled_with_the_clouds_ranges() {
    let world = World::new();
    world.write("aws.json", AWS);
    let update = ["ranges", "update", "aws.json", "-o", "ranges.zst"];
    world
        .run(&update)
        .exits(0)
        .says("aws, 2 range(s)")
        .says("1 network(s)");
    let flows = flow("w", "3.5.1.1", 443, "") + &flow("w", "192.0.2.1", 443, "");
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let list = ["policy", "list", "policy.toml", "--ranges", "ranges.zst"];
    world.run(&list).exits(0).shows("aws:S3:us-east-1");
    let json = world.run(&[&list[..], &["--json"]].concat()).exits(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["ranges"][1], "aws:AMAZON:us-east-1");
    assert!(json[1].get("ranges").is_none());
    let review = ["policy", "review", "policy.toml", "--ranges", "ranges.zst"];
    world
        .run(&review)
        .exits(0)
        .shows("network     aws:S3:us-east-1");
}

#[test]
fn a_file_that_is_none_is_named_and_nothing_is_written() {
    let world = World::new();
    world.write("aws.json", AWS);
    world.write("page.html", "<html>");
    let update = [
        "ranges",
        "update",
        "aws.json",
        "page.html",
        "-o",
        "ranges.zst",
    ];
    world.run(&update).exits(2).says("page.html");
    assert!(!world.exists("ranges.zst"));
    world.write(
        "policy.toml",
        "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n",
    );
    for wrong in ["missing.zst", "aws.json"] {
        world
            .run(&["policy", "list", "policy.toml", "--ranges", wrong])
            .exits(2)
            .says(wrong);
    }
}

#[test]
fn candidates_are_expanded_to_the_range_around_them() {
    let world = World::new();
    world.write("aws.json", AWS);
    let update = ["ranges", "update", "aws.json", "-o", "ranges.zst"];
    world.run(&update).exits(0);
    let addresses = ["3.5.1.1", "3.5.1.2", "192.0.2.1"];
    let flows: String = addresses.map(|to| flow("w", to, 443, "")).concat();
    world.write("log.jsonl", whole("w", &flows));
    let generate = ["log.jsonl", "-o", "policy.toml"];
    world.generate(&generate).exits(0);
    let expand = |more: &[&str]| {
        let words = [
            "policy",
            "approve",
            "policy.toml",
            "--expand",
            "--ranges",
            "ranges.zst",
            "--reason",
            "our own buckets",
            "--owner",
            "o",
            "--now",
            "2026-11-22",
        ];
        world.run(&[&words[..], more].concat())
    };
    let before = world.read("policy.toml");
    expand(&["3.5.1.1", "3.5.1.2"])
        .exits(2)
        .says("opens 8192 address(es), 2 of them seen")
        .says("--acknowledge broad");
    expand(&["192.0.2.1"])
        .exits(2)
        .says("in no published range");
    assert_eq!(world.read("policy.toml"), before);
    expand(&["3.5.1.1", "3.5.1.2", "--acknowledge", "broad"]).exits(0);
    let text = world.read("policy.toml");
    assert!(text.contains("to = \"3.5.0.0/19\""), "{text}");
    assert!(text.contains("reference = \"aws:S3:us-east-1, list of 2025-07-24-20-23-14, sha256 "));
    assert!(!text.contains("3.5.1."), "{text}");
    // What is inside is known from now on.
    world.generate(&generate).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    let list = world
        .run(&["policy", "list", "policy.toml", "--json"])
        .exits(0);
    let rows: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(rows[1]["status"], "approved");
    assert_eq!(rows[1]["observed"]["connections"], 2);
}
