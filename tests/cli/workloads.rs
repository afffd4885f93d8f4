//! One file, one workload: choosing, merging, splitting; aliases and runs.

use crate::world::{World, flow, record, whole};

fn two_workloads(world: &World) {
    let a = whole("team/a", &flow("team/a", "10.0.0.1", 1, ""));
    let b = whole("b", &flow("b", "10.0.0.2", 2, ""));
    world.write("log.jsonl", a + &b);
}

#[test]
fn several_workloads_need_a_choice() {
    let world = World::new();
    two_workloads(&world);
    world
        .generate(&["log.jsonl"])
        .exits(2)
        .says("--workload NAME")
        .says("b, team/a");
    world
        .generate(&["log.jsonl", "--workload", "c"])
        .exits(2)
        .says("b, team/a");
    let ran = world
        .generate(&["log.jsonl", "--workload", "team/a"])
        .exits(0);
    assert!(ran.out.contains("10.0.0.1") && !ran.out.contains("10.0.0.2"));
    let ran = world.generate(&["log.jsonl", "--merge-workloads"]).exits(0);
    assert!(ran.out.contains("10.0.0.1") && ran.out.contains("10.0.0.2"));
    assert!(ran.out.contains("workload = \"merged\""));
}

#[test]
fn a_directory_has_a_folder_for_each() {
    let world = World::new();
    two_workloads(&world);
    world.generate(&["log.jsonl", "-o", "out/"]).exits(0);
    assert!(
        world
            .read("out/team%2Fa/policy.toml")
            .contains("workload = \"team/a\"")
    );
    for file in [
        "policy.toml",
        "policy.evidence.json",
        "rules.nft",
        "rules.v4",
        "rules.v6",
    ] {
        assert!(world.exists(&format!("out/b/{file}")), "{file}");
    }
}

#[test]
fn records_follow_their_alias_across_files_and_order() {
    let world = World::new();
    world.write(
        "1.jsonl",
        whole("docker-0123", &flow("docker-0123", "10.0.0.1", 1, "")),
    );
    let alias = record("alias", "shop", ",\"provisional\":\"docker-0123\"");
    world.write(
        "2.jsonl",
        whole("shop", &(alias + &flow("shop", "10.0.0.2", 1, ""))),
    );
    let ran = world.generate(&["2.jsonl", "1.jsonl"]).exits(0);
    assert!(ran.out.contains("workload = \"shop\""));
    assert!(ran.out.contains("10.0.0.1") && ran.out.contains("10.0.0.2"));
    let old_name = world.generate(&[".", "--workload", "docker-0123"]).exits(0);
    assert_eq!(old_name.out, ran.out);
}

#[test]
fn imported_files_are_a_run_each_and_named_after_the_file() {
    let world = World::new();
    let line = "{\"dest_ip\":\"10.0.0.1\",\"dest_port\":443}\n";
    world.write("one/shop.jsonl", line);
    world.write("two/shop.jsonl", line);
    world
        .generate(&["one", "two", "one/shop.jsonl", "-o", "out/"])
        .exits(0);
    let evidence = world.read("out/policy.evidence.json");
    assert!(evidence.contains("\"runs\": 2") && evidence.contains("\"connections\": 2"));
    assert!(
        world
            .read("out/policy.toml")
            .contains("workload = \"shop\"")
    );
    let ran = world
        .generate_from(&["-", "--workload", "x"], line.as_bytes())
        .exits(0);
    assert!(ran.out.contains("workload = \"x\""));
}

#[test]
fn a_copy_of_a_segment_counts_once() {
    let world = World::new();
    let log = whole("w", &flow("w", "10.0.0.1", 1, ""));
    world.write("flows.jsonl", &log);
    world.write(
        "copy.jsonl.zst",
        zstd::encode_all(log.as_bytes(), 3).unwrap(),
    );
    world
        .generate(&[".", "-o", "out/"])
        .exits(0)
        .says("counted once");
    assert!(
        world
            .read("out/policy.evidence.json")
            .contains("\"connections\": 1")
    );
}

#[test]
fn what_is_no_egress_is_no_candidate() {
    let world = World::new();
    let flows = [
        flow("w", "127.0.0.1", 1, ",\"place\":\"loopback\""),
        flow("w", "0.0.0.0", 2, ",\"place\":\"unspecified\""),
        flow("w", "10.0.0.3", 3, ",\"direction\":\"reply\""),
        flow("w", "10.0.0.4", 4, ",\"channel\":\"udp-probe\""),
        flow("w", "10.0.0.5", 5, ",\"place\":\"private\""),
    ];
    world.write("log.jsonl", whole("w", &flows.concat()));
    let ran = world.generate(&["log.jsonl"]).exits(0);
    let entries: Vec<&str> = ran
        .out
        .lines()
        .filter(|line| line.starts_with("to = "))
        .collect();
    assert_eq!(entries, ["to = \"10.0.0.5\""]);
}
