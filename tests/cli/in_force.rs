//! `diff` against the list in force of another tool, and against what `render` wrote.

use crate::world::{Ran, World, flow, whole};

const POLICY: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";

fn approved(to: &str, ports: &str) -> String {
    format!(
        "[[allow]]\nto = \"{to}\"\nports = [{ports}]\nstatus = \"approved\"\n\
         reason = \"some reason\"\nowner = \"o\"\nexpires = 2027-06-01\n"
    )
}

fn world() -> World {
    let world = World::new();
    let flows = flow("w", "192.0.2.1", 443, "") + &flow("w", "198.51.100.7", 8443, "");
    world.write("known.jsonl", whole("w", &flows));
    world.write(
        "new.jsonl",
        whole("w", &(flows + &flow("w", "203.0.113.9", 22, ""))),
    );
    world
}

fn diff(world: &World, list: &str, log: &str) -> Ran {
    world.run(&["diff", list, log, "--now", "2026-11-22"])
}

fn judges(world: &World, list: &str) {
    diff(world, list, "known.jsonl").exits(0);
    let ran = diff(world, list, "new.jsonl").exits(1).shows("new: 1");
    ran.shows("203.0.113.9 22/tcp");
}

#[test]
fn drift_from_what_render_wrote_is_drift_from_the_policy() {
    let world = world();
    let entries =
        approved("192.0.2.1", "\"443/tcp\"") + &approved("198.51.100.0/24", "\"8443/tcp\"");
    world.write("policy.toml", POLICY.to_owned() + &entries);
    judges(&world, "policy.toml");
    for (format, file) in [
        ("nftables", "rules.nft"),
        ("iptables", "rules.v4"),
        ("ipset", "rules.ipset"),
        ("calico", "calico.yaml"),
        ("json", "rules.json"),
        ("networkpolicy", "policy.yaml"),
        ("cilium", "cilium.yaml"),
        ("squid", "squid.conf"),
    ] {
        let words = [
            "render",
            "policy.toml",
            "--format",
            format,
            "-o",
            file,
            "--now",
            "2026-11-22",
        ];
        world
            .run(&[&words[..], &["--pod-label", "app=w"]].concat())
            .exits(0);
        judges(&world, file);
    }
}

#[test]
fn a_list_in_force_names_no_workload() {
    let world = world();
    world.write(
        "rules.v4",
        "*filter\n-A OUTPUT -d 192.0.2.1/32 -p tcp --dport 443 -j ACCEPT\nCOMMIT\n",
    );
    world.write(
        "other.jsonl",
        whole("other", &flow("other", "192.0.2.1", 443, "")),
    );
    let both = ["diff", "rules.v4", "known.jsonl", "other.jsonl"];
    world
        .run(&both)
        .exits(2)
        .says("choose one with --workload: other, w");
    let ran = world.run(&[&both[..], &["--workload", "other"]].concat());
    ran.exits(0)
        .says("rules.v4: iptables-save, 1 destination(s)")
        .says("IPv6 is not in this list");
    world.write("empty.v4", "*filter\nCOMMIT\n");
    world
        .run(&["diff", "empty.v4", "known.jsonl"])
        .exits(2)
        .says("lets nothing pass");
    world.write("what.txt", "hello there\n");
    world
        .run(&["diff", "what.txt", "known.jsonl"])
        .exits(2)
        .says("no list that is known");
}
