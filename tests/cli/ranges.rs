//! `ranges update`, and the labels that come of it.

use crate::world::{Ran, World, flow, whole};

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
            "--expand=network",
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
        .says("opens 8192 address(es) in 1 network(s), 2 of them seen")
        .says("--acknowledge broad");
    expand(&["192.0.2.1"])
        .exits(2)
        .says("in no published range");
    assert_eq!(world.read("policy.toml"), before);
    expand(&["3.5.1.1", "3.5.1.2", "--acknowledge", "broad"]).exits(0);
    let text = world.read("policy.toml");
    assert!(text.contains("to = \"3.5.0.0/19\""), "{text}");
    assert!(text.contains("reference = \"aws:S3:us-east-1, list of 2025-07-24-20-23-14 sha256:"));
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

/// S3 in one region, in these networks.
fn s3(date: &str, networks: &[&str]) -> String {
    let prefix = |network: &&str| {
        format!(r#"{{"ip_prefix":"{network}","region":"us-east-1","service":"S3"}}"#)
    };
    let all: Vec<String> = networks.iter().map(prefix).collect();
    let all = all.join(",");
    format!(r#"{{"createDate":"{date}","prefixes":[{all}],"ipv6_prefixes":[]}}"#)
}

/// `ranges.zst` of this list, told to the policy.
fn update(world: &World, list: &str) -> Ran {
    world.write("aws.json", list);
    let update = ["ranges", "update", "aws.json", "-o", "ranges.zst"];
    let policy = ["--policy", "policy.toml", "--now", "2026-11-22"];
    let ran = match world.exists("policy.toml") {
        true => world.run(&[&update[..], &policy].concat()),
        false => world.run(&update),
    };
    ran.exits(0)
}

fn with_ranges(world: &World, words: &[&str]) -> Ran {
    world.run(&[words, &["--ranges", "ranges.zst", "--now", "2026-11-22"]].concat())
}

const TAG: &str = "aws:S3:us-east-1";

fn approve(world: &World, entries: &[&str], more: &[&str]) -> Ran {
    let head = ["policy", "approve", "policy.toml"];
    let words = ["--reason", "our own buckets", "--owner", "o"];
    with_ranges(world, &[&head[..], entries, &words, more].concat())
}

/// A policy in which the tag is approved in place of two addresses.
fn approved_tag() -> World {
    let world = World::new();
    update(&world, &s3("monday", &["3.5.0.0/25"]));
    let flows: String = ["3.5.0.1", "3.5.0.2", "192.0.2.1"]
        .map(|to| flow("w", to, 443, ""))
        .concat();
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    approve(&world, &["3.5.0.1", "3.5.0.2"], &["--expand"])
        .exits(0)
        .says("opens 128 address(es) in 1 network(s), 2 of them seen");
    world
}

const RENDER: [&str; 4] = ["render", "policy.toml", "--format", "nftables"];

#[test]
fn a_tag_stays_a_tag_and_is_looked_up_when_rules_are_made() {
    let world = approved_tag();
    let text = world.read("policy.toml");
    assert!(text.contains(&format!("to = \"{TAG}\"")), "{text}");
    assert!(text.contains("list = [\"monday sha256:"), "{text}");
    assert!(text.contains("at_most = 256"), "{text}");
    assert!(!text.contains("3.5.0."), "{text}");
    // What is inside is known from now on.
    let generate = ["log.jsonl", "-o", "policy.toml", "--ranges", "ranges.zst"];
    world.generate(&generate).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    let ran = with_ranges(&world, &RENDER).exits(0).shows("3.5.0.0/25");
    assert!(!ran.err.contains(TAG), "{}", ran.err);
    with_ranges(&world, &["diff", "policy.toml", "log.jsonl"])
        .exits(1)
        .shows("unreviewed: 1")
        .shows("192.0.2.1");
    with_ranges(&world, &["replay", "policy.toml", "log.jsonl"])
        .exits(1)
        .shows("2 allowed, 1 denied");
    // Without the file it stands for nothing, and that is said.
    world
        .run(&[&RENDER[..], &["--now", "2026-11-22"]].concat())
        .exits(1)
        .says("no ranges file says what that is");
}

#[test]
fn what_widens_past_its_approval_is_not_in_force_until_it_is_approved_again() {
    let world = approved_tag();
    // Another list, and within what an entry may open anyway.
    update(&world, &s3("tuesday", &["3.5.0.0/25", "3.5.1.0/25"]))
        .says("opened 128 address(es) and opens 256 now: 1 network(s) more, 0 less")
        .says("it stays in force");
    with_ranges(&world, &RENDER)
        .exits(0)
        .says("was approved by another list (monday sha256:")
        .shows("3.5.1.0/25");
    // One address too many.
    let wide = s3("friday", &["3.5.0.0/25", "3.5.1.0/25", "3.6.0.0/32"]);
    update(&world, &wide).says("it is not in force until it is approved again");
    with_ranges(&world, &RENDER)
        .exits(1)
        .says("opens 257 address(es) by the ranges file, and at most 256 are approved");
    let list = ["policy", "list", "policy.toml", "--status", "widened"];
    with_ranges(&world, &list).exits(0).shows(TAG);
    with_ranges(&world, &["diff", "policy.toml", "log.jsonl"])
        .exits(1)
        .shows("expired: 2")
        .shows("the published range is wider than was approved");
    approve(&world, &[TAG], &[])
        .exits(2)
        .says("--acknowledge broad");
    approve(&world, &[TAG], &["--acknowledge", "broad"]).exits(0);
    with_ranges(&world, &RENDER).exits(0).shows("3.6.0.0");
    // The same list again changes nothing, and nothing is told.
    let ran = update(&world, &wide);
    assert!(!ran.err.contains(TAG), "{}", ran.err);
    // No range, no approval.
    update(&world, &s3("later", &["3.9.0.0/32"]).replace("S3", "EC2"))
        .says("no list has it any more");
}

#[test]
fn a_denied_tag_that_cannot_be_looked_up_stops_rendering() {
    let world = approved_tag();
    let add = [
        "policy",
        "add",
        "policy.toml",
        "203.0.113.0/30",
        "--port",
        "443/tcp",
    ];
    let why = ["--reason", "our own network", "--owner", "o"];
    with_ranges(&world, &[&add[..], &why].concat()).exits(0);
    let deny = ["policy", "deny", "policy.toml", TAG];
    with_ranges(&world, &[&deny[..], &why].concat()).exits(0);
    let ran = with_ranges(&world, &RENDER).exits(0);
    assert!(!ran.out.contains("3.5.0."), "{}", ran.out);
    world
        .run(&[&RENDER[..], &["--now", "2026-11-22"]].concat())
        .exits(2)
        .says(&format!("{TAG} is denied, and no ranges file says"));
}

#[test]
fn generate_proposes_a_tag_in_place_of_the_addresses_in_it() {
    let world = World::new();
    update(&world, &s3("monday", &["3.5.0.0/19"]));
    let flows: String = ["3.5.0.1", "3.5.9.2", "192.0.2.1"]
        .map(|to| flow("w", to, 443, ""))
        .concat();
    world.write("log.jsonl", whole("w", &flows));
    let generate = [
        "generate",
        "log.jsonl",
        "-o",
        "policy.toml",
        "--ranges",
        "ranges.zst",
    ];
    let expand = |tag: &str| world.run(&[&generate[..], &["--expand", tag]].concat());
    expand("aws:S3:eu-west-9")
        .exits(2)
        .says("in no published list at hand");
    expand("nobody:S3").exits(2).says("is no tag");
    assert!(!world.exists("policy.toml"));
    expand(TAG)
        .exits(0)
        .says("opens 8192 address(es) in 1 network(s), 2 of them seen");
    let text = world.read("policy.toml");
    assert!(text.contains(&format!("to = \"{TAG}\"")), "{text}");
    assert!(text.contains("\"broad\""), "{text}");
    assert!(!text.contains("3.5."), "{text}");
    world.run(&generate).exits(0);
    assert_eq!(world.read("policy.toml"), text);
    approve(&world, &[TAG], &[])
        .exits(2)
        .says("--acknowledge broad");
    approve(&world, &[TAG], &["--acknowledge", "broad"]).exits(0);
    assert!(world.read("policy.toml").contains("at_most = 8192"));
}

/// With what the providers publish, of which one file is changed as they change it.
#[test]
fn the_real_lists_can_be_approved_by_tag() {
    let Some(samples) = std::env::var_os("EGRESS_TRACER_SAMPLES") else {
        eprintln!(
            "SKIPPED the_real_lists_can_be_approved_by_tag: EGRESS_TRACER_SAMPLES is not set"
        );
        return;
    };
    let folder = std::path::PathBuf::from(samples).join("ranges");
    let world = World::new();
    let mut files = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        world.write(&name, std::fs::read(&path).unwrap());
        files.push(name);
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let head = [
        "ranges",
        "update",
        "-o",
        "ranges.zst",
        "--policy",
        "policy.toml",
    ];
    let update = || world.run(&[&head[..], &["--now", "2026-11-22"], &files].concat());
    world.write(
        "policy.toml",
        "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n",
    );
    update().exits(0);
    // The bucket's address, Cloudflare's and Fastly's fronts, and none of them.
    let addresses = ["52.216.0.1", "104.16.1.1", "151.101.1.1", "192.0.2.1"];
    let flows: String = addresses.map(|to| flow("w", to, 443, "")).concat();
    world.write("log.jsonl", whole("w", &flows));
    world.generate(&["log.jsonl", "-o", "policy.toml"]).exits(0);
    let broad = ["--acknowledge", "broad", "--expand"];
    approve(&world, &addresses[..3], &broad).exits(0);
    let text = world.read("policy.toml");
    for tag in [TAG, "cloudflare:CDN", "fastly:CDN"] {
        assert!(text.contains(&format!("to = \"{tag}\"")), "{tag}: {text}");
    }
    with_ranges(&world, &["diff", "policy.toml", "log.jsonl"])
        .exits(1)
        .shows("unreviewed: 1");
    let made = with_ranges(&world, &RENDER).exits(0);
    assert!(made.out.contains("52.216.0.0/15"), "{}", made.out);
    // AWS adds a network to the region.
    let aws = world.read("aws-ip-ranges.json");
    let more =
        r#""prefixes": [ {"ip_prefix":"198.51.100.0/24","region":"us-east-1","service":"S3"},"#;
    assert!(
        aws.contains(r#""prefixes": ["#),
        "the file has another form"
    );
    world.write(
        "aws-ip-ranges.json",
        aws.replacen(r#""prefixes": ["#, more, 1),
    );
    let ran = update().exits(0).says("1 network(s) more, 0 less");
    let told = ran.err.lines().filter(|line| line.contains("not in force"));
    assert_eq!(told.count(), 1, "{}", ran.err);
    let ran = with_ranges(&world, &RENDER).exits(0).says(TAG);
    assert!(!ran.out.contains("52.216.0.0/15"), "{}", ran.out);
    assert!(ran.out.contains("104.16.0.0/13"), "{}", ran.out);
    approve(&world, &[TAG], &broad[..2]).exits(0);
    let ran = with_ranges(&world, &RENDER).exits(0);
    assert!(ran.out.contains("198.51.100.0/24"), "{}", ran.out);
}
