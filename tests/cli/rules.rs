//! Formats and flags of rules, through the binary.

use crate::world::{World, flow, whole};

fn world() -> World {
    let world = World::new();
    let hosts: String = (1..=8)
        .map(|low| flow("shop", &format!("192.0.2.{low}"), 443, ""))
        .collect();
    let dns = flow("shop", "192.0.2.53", 53, "").replace("\"tcp\"", "\"udp\"");
    world.write("log.jsonl", whole("shop", &(hosts + &dns)));
    world
}

#[test]
fn the_list_names_every_format() {
    let ran = World::new().generate(&["--format", "list"]).exits(0);
    for format in [
        "nftables",
        "ipset",
        "networkpolicy",
        "harden-runner",
        "json",
    ] {
        let is_line = |line: &str| line.starts_with(format);
        assert!(ran.out.lines().any(is_line), "{format}: {}", ran.out);
    }
}

#[test]
fn what_cannot_be_said_is_told_and_not_exact() {
    let world = world();
    let squid = ["log.jsonl", "--format", "squid", "--verdict", "drop"];
    let ran = world
        .generate(&squid)
        .exits(0)
        .says("192.0.2.53/32 53/udp: Squid forwards TCP only");
    assert!(
        ran.out
            .contains("#   192.0.2.53/32 53/udp: Squid forwards TCP only")
    );
    let exact = [&squid[..], &["--exact", "-o", "squid.conf"]].concat();
    world.generate(&exact).exits(1).says("nothing was written");
    assert!(!world.exists("squid.conf"));
    let nft = ["log.jsonl", "--format", "nftables", "--exact"];
    world.generate(&nft).exits(0);
    world
        .generate(&["log.jsonl", "-o", "all/", "--exact", "--source", "10.0.0.1"])
        .exits(1);
    assert!(!world.exists("all/rules.nft"));
}

#[test]
fn what_can_only_enforce_must_be_asked_to() {
    let world = world();
    for format in ["networkpolicy", "cilium", "squid", "sandbox-runtime"] {
        let ran = world
            .generate(&["log.jsonl", "--format", format])
            .exits(2)
            .says("--verdict drop");
        assert!(ran.out.is_empty());
    }
    let pods = ["--verdict", "drop", "--pod-label", "app=shop"];
    let policy = ["log.jsonl", "--format", "networkpolicy"];
    world.generate(&[&policy[..], &pods[..2]].concat()).exits(2);
    let ran = world.generate(&[&policy[..], &pods].concat()).exits(0);
    assert!(ran.out.contains("\"app\": \"shop\""));
}

#[test]
fn merging_is_asked_for_and_told() {
    let world = world();
    let json = ["log.jsonl", "--format", "json"];
    let plain = world.generate(&json).exits(0);
    assert!(!plain.err.contains("opened"), "{}", plain.err);
    let exact = world
        .generate(&[&json[..], &["--aggregate", "exact"]].concat())
        .exits(0)
        .says("6 addresses observed, 6 opened");
    assert!(exact.out.contains("\"192.0.2.2/31\""), "{}", exact.out);
    let wide = world
        .generate(&[&json[..], &["--aggregate", "/24:8"]].concat())
        .exits(0)
        .says("8 addresses observed, 256 opened");
    assert!(wide.out.contains("8 of 256 addresses observed"));
    world
        .generate(&[&json[..], &["--aggregate", "/24"]].concat())
        .exits(2);
}
