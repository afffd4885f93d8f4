//! `coverage`: figures, forms and exit codes.

use serde_json::Value;

use crate::world::{World, flow, gap, start, stop, whole};

/// Four runs; five destinations, seen in 1, 1, 1, 2 and 4 of them.
fn runs() -> [String; 4] {
    let seen: [&[&str]; 4] = [
        &["192.0.2.1", "192.0.2.2"],
        &["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        &["192.0.2.1", "192.0.2.4", "192.0.2.5"],
        &["192.0.2.1"],
    ];
    let mut number = 0;
    seen.map(|ips| {
        number += 1;
        let flows: String = ips.iter().map(|ip| flow("shop", ip, 443, "")).collect();
        whole("shop", &flows).replace("\"r1\"", &format!("\"r{number}\""))
    })
}

fn json(world: &World, arguments: &[&str]) -> Value {
    let ran = world.run(&[&["coverage", "--json"], arguments].concat());
    serde_json::from_str(&ran.exits(0).out).unwrap()
}

#[test]
fn the_figures_are_those_of_the_runs() {
    let world = World::new();
    for (number, run) in runs().iter().enumerate() {
        world.write(&format!("in/{number}.jsonl"), run);
    }
    let all = json(&world, &["in", "--target", "90%"]);
    assert_eq!(all["schema"], "egress-tracer/coverage/1");
    let shop = &all["workloads"][0];
    assert_eq!(shop["workload"], "shop");
    assert_eq!(shop["runs"], 4);
    assert_eq!(shop["destinations"], 5);
    assert_eq!(shop["in_one_run"], 3);
    assert_eq!(shop["estimate"]["unseen"], 1.125);
    assert_eq!(shop["further_runs"], 2);
    assert_eq!(shop["curve"].as_array().unwrap().len(), 4);
    let single = shop["single_run"].as_array().unwrap();
    assert_eq!(single.len(), 3);
    assert_eq!(single[0]["to"], "192.0.2.3");
    assert_eq!(single[0]["run"], "r2");
    let text = world
        .run(&["coverage", "in", "--target", "0.9"])
        .exits(0)
        .out;
    for expected in [
        "shop: 5 destinations in 4 run(s)",
        "33.3 % of what a further run does is new",
        "about 1.1, 95 % interval",
        "about 2 further run(s)",
        "192.0.2.4 443/tcp  (r3)",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn runs_without_flows_count() {
    let world = World::new();
    world.write("a.jsonl", &runs()[0]);
    world.write("b.jsonl", whole("shop", "").replace("\"r1\"", "\"r9\""));
    let shop = &json(&world, &["a.jsonl", "b.jsonl"])["workloads"][0];
    assert_eq!((&shop["runs"], &shop["in_one_run"]), (&2.into(), &2.into()));
}

#[test]
fn one_run_estimates_nothing() {
    let world = World::new();
    world.write("a.jsonl", &runs()[0]);
    let ran = world.run(&["coverage", "a.jsonl"]).exits(0);
    assert!(ran.out.contains("one run says nothing about others"));
    assert!(json(&world, &["a.jsonl"])["workloads"][0]["further_runs"].is_null());
}

#[test]
fn incomplete_evidence_is_no_basis() {
    let world = World::new();
    let gap = gap("shop", "flow-table", "destinations");
    world.write("a.jsonl", start("shop") + &gap + &stop("shop"));
    let ran = world.run(&["coverage", "a.jsonl"]).exits(3);
    assert!(ran.out.is_empty());
    let shop = &json(&world, &["a.jsonl", "--allow-incomplete"])["workloads"][0];
    assert_eq!(shop["complete"], false);
}

#[test]
fn bad_usage_is_told() {
    let world = World::new();
    world.write("a.jsonl", &runs()[0]);
    world.run(&["coverage"]).exits(2).says("no INPUT");
    for target in ["0", "1", "100%", "x", "-5%", "NaN"] {
        world
            .run(&["coverage", "a.jsonl", &format!("--target={target}")])
            .exits(2);
    }
}
