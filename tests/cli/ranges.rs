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
