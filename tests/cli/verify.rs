//! `policy verify` and `policy sign`: which records prove an entry, what cannot be proven any more,
//! and whose decisions they are. Signed by the real ssh-keygen.

use std::process::Command;

use serde_json::Value;

use crate::world::{Ran, World, flow, start, stop, whole};

/// Two runs; 192.0.2.2 was seen in the second only. 192.0.2.1 is approved.
fn world() -> World {
    let world = World::new();
    world.write("logs/a.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    let more = flow("w", "192.0.2.1", 443, "") + &flow("w", "192.0.2.2", 443, "");
    let second = (start("w") + &more + &more + &stop("w")).replace("\"r1\"", "\"r2\"");
    world.write("logs/b.jsonl", second);
    world.generate(&["logs", "-o", "policy.toml"]).exits(0);
    approve(&world, "192.0.2.1");
    world
}

fn approve(world: &World, entry: &str) {
    let words = ["policy", "approve", "policy.toml", entry, "--owner", "o"];
    let more = ["--reason", "the model provider", "--now", "2026-11-22"];
    world.run(&[&words[..], &more].concat()).exits(0);
}

fn verify(world: &World, more: &[&str]) -> Ran {
    world.run(&[&["policy", "verify", "policy.toml"], more].concat())
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn every_entry_points_at_its_records() {
    let world = world();
    let ran = verify(&world, &["logs", "--json"]).exits(0);
    let said = json(&ran);
    assert_eq!(said["sources"]["found"].as_array().unwrap().len(), 2);
    let lines = |entry: usize| -> Vec<(u64, Value)> {
        let records = said["entries"][entry]["records"].as_array().unwrap();
        let each = |records: &Value| (records["count"].as_u64().unwrap(), records["lines"].clone());
        records.iter().map(each).collect()
    };
    assert_eq!(said["entries"][0]["entry"], "192.0.2.1");
    assert_eq!(said["entries"][0]["proof"], "whole");
    assert_eq!(
        lines(0),
        [(1, [2].as_slice().into()), (2, [2, 4].as_slice().into())]
    );
    assert_eq!(lines(1), [(2, [3, 5].as_slice().into())]);
    // Packed, under another name, beside logs of something else: it is the content that counts.
    let packed = zstd::encode_all(world.read("logs/b.jsonl").as_bytes(), 1).unwrap();
    world.write("moved/x.jsonl.zst", packed);
    world.write("moved/y.jsonl", world.read("logs/a.jsonl"));
    world.write(
        "moved/z.jsonl",
        whole("w", &flow("w", "203.0.113.9", 1, "")),
    );
    let ran = verify(&world, &["moved"]).exits(0);
    ran.shows("not named ")
        .shows("192.0.2.1  approved  proven  ");
}

#[test]
fn what_cannot_be_proven_any_more_is_said() {
    let world = world();
    let ran = verify(&world, &["logs/a.jsonl"]).exits(1);
    let ran = ran
        .shows("missing   ")
        .shows("192.0.2.1  approved  proven in part");
    ran.shows("192.0.2.2  candidate  cannot be proven any more");
}

#[test]
fn a_log_that_was_changed_proves_nothing() {
    let world = world();
    let log = world.read("logs/b.jsonl").replace("192.0.2.2", "192.0.2.3");
    world.write("logs/b.jsonl", log);
    let ran = verify(&world, &["logs"]).exits(1);
    ran.shows("192.0.2.2  candidate  cannot be proven any more")
        .shows("not named ");
}

#[test]
fn figures_that_were_changed_are_contradicted() {
    let world = world();
    let evidence = world.read("policy.evidence.json");
    let changed = evidence.replacen("\"connections\": 3", "\"connections\": 4", 1);
    assert_ne!(changed, evidence);
    world.write("policy.evidence.json", changed);
    let ran = verify(&world, &["logs"]).exits(1);
    ran.shows("192.0.2.1  approved  CONTRADICTED");
    world.write("lonely.toml", world.read("policy.toml"));
    let ran = world.run(&["policy", "verify", "lonely.toml", "logs"]);
    ran.exits(2).says("no evidence");
}

/// A key without a passphrase, and the line by which it may sign.
fn key(world: &World, name: &str) -> String {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    let status = keygen.arg(world.path(name)).status().unwrap();
    assert!(status.success());
    format!("{name}@example.com {}", world.read(&format!("{name}.pub")))
}

#[test]
fn decisions_are_signed_and_nothing_else() {
    let world = world();
    let (ada, eve) = (key(&world, "ada"), key(&world, "eve"));
    world.write("signers", &ada);
    let signed = |more: &[&str]| verify(&world, &[&["--signers", "signers"], more].concat());
    signed(&[]).exits(1).says("policy.toml.sig is not there");
    let sign = |key: &str| world.run(&["policy", "sign", "policy.toml", "--key", key]);
    sign("ada").exits(0).says("1 decision(s) signed");
    signed(&[]).exits(0).shows("signed by ada@example.com");
    signed(&["logs"])
        .exits(0)
        .shows("192.0.2.1  approved  proven");
    // A new candidate and a comment are nobody's decision.
    world.write("c.jsonl", whole("w", &flow("w", "192.0.2.9", 443, "")));
    world.generate(&["c.jsonl", "-o", "policy.toml"]).exits(0);
    world.write(
        "policy.toml",
        format!("# moved\n{}", world.read("policy.toml")),
    );
    signed(&[]).exits(0);
    let signed_text = world.read("policy.toml");
    for (from, to) in [
        ("443/tcp", "80/tcp"),
        ("2027-02-20", "2027-02-21"),
        ("the model", "a model"),
    ] {
        world.write("policy.toml", signed_text.replacen(from, to, 1));
        signed(&[])
            .exits(1)
            .says("are not what ada@example.com signed");
    }
    world.write("policy.toml", &signed_text);
    approve(&world, "192.0.2.9");
    signed(&[]).exits(1);
    sign("eve").exits(0);
    signed(&[]).exits(1).says("its key may not sign");
    world.write("signers", ada + &eve);
    signed(&[]).exits(0).shows("signed by eve@example.com");
    sign("nobody").exits(2).says("ssh-keygen did not sign");
}

#[test]
fn a_base_is_signed_with_what_includes_it() {
    let world = world();
    let signers = key(&world, "ada");
    world.write("signers", signers);
    let base = "schema = \"egress-tracer/policy/1\"\nworkload = \"base\"\n[[allow]]\n\
        to = \"198.51.100.1\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\nreason = \"not this one\"\n\
        owner = \"o\"\n";
    world.write("base.toml", base);
    let text = world.read("policy.toml");
    let included = text.replacen(
        "workload = \"w\"\n",
        "workload = \"w\"\ninclude = [\"base.toml\"]\n",
        1,
    );
    assert_ne!(included, text);
    world.write("policy.toml", included);
    world
        .run(&["policy", "sign", "policy.toml", "--key", "ada"])
        .exits(0)
        .says("2 decision(s)");
    verify(&world, &["--signers", "signers"]).exits(0);
    world.write("base.toml", base.replace("denied", "candidate"));
    verify(&world, &["--signers", "signers"]).exits(1);
}

#[test]
fn the_evidence_points_at_records_and_they_are_checked() {
    let world = world();
    let generate = ["logs", "-o", "policy.toml", "--records"];
    world.generate(&generate).exits(0);
    let text = world.read("policy.evidence.json");
    let evidence: Value = serde_json::from_str(&text).unwrap();
    let digests: Vec<&str> = evidence["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| source["sha256"].as_str().unwrap())
        .collect();
    let records = evidence["records"].as_array().unwrap();
    for pointer in records {
        assert!(digests.contains(&pointer["sha256"].as_str().unwrap()));
        let log = ["logs/a.jsonl", "logs/b.jsonl"]
            .map(|log| world.read(log))
            .into_iter()
            .find(|log| sha256(log) == pointer["sha256"])
            .unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let to = format!("\"dest_ip\":{}", pointer["to"]);
        let numbers = pointer["lines"].as_array().unwrap();
        assert_eq!(
            pointer["count"],
            lines.iter().filter(|line| line.contains(&to)).count()
        );
        for number in numbers {
            let line = lines[usize::try_from(number.as_u64().unwrap()).unwrap() - 1];
            assert!(line.contains(&to), "{line}");
        }
    }
    assert_eq!(
        records.len(),
        3,
        "two logs tell of one, and one of the other"
    );
    verify(&world, &["logs"])
        .exits(0)
        .shows("192.0.2.1  approved  proven");
    // Again the same; and a number that is moved is no proof.
    world.generate(&generate).exits(0);
    assert_eq!(world.read("policy.evidence.json"), text);
    let number = records[0]["lines"][0].to_string();
    let moved = text.replacen(&format!("\n        {number}"), "\n        99", 1);
    assert_ne!(moved, text, "{text}");
    world.write("policy.evidence.json", moved);
    verify(&world, &["logs"]).exits(1).shows("CONTRADICTED");
}

fn sha256(text: &str) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
