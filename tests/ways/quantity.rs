//! Many datagrams to many places: the counts are exact, or say what they lack.
//!
//! `EGRESS_TRACER_FULL` asks for a million; fewer show the same.

use std::{env, fmt::Write as _, process::Command};

use lab::egress_tracer;

use crate::world::{World, needs_root, path_text};

const DESTINATIONS: u64 = 1000;

#[test]
fn datagrams_to_a_thousand_destinations_are_counted_exactly() {
    needs_root!();
    let each = if env::var_os("EGRESS_TRACER_FULL").is_some() {
        1000
    } else {
        30
    };
    let world = World::new();
    let mut steps = "socket 4".to_owned();
    let place = |n: u64| (format!("203.0.113.{}", n % 250 + 1), 1000 + n);
    for n in 0..DESTINATIONS {
        let (ip, port) = place(n);
        write!(steps, " to {ip}:{port} {each}").unwrap();
    }
    let log = world.record(&steps);
    for n in 0..DESTINATIONS {
        let (ip, port) = place(n);
        let port = u16::try_from(port).unwrap();
        assert_eq!(log.count(&ip, port), each, "{ip}:{port}");
    }
    let sum: u64 = log.flows().filter_map(|flow| flow["count"].as_u64()).sum();
    assert_eq!(sum, DESTINATIONS * each);
    assert_eq!(log.of_type("gap").count(), 0);
}

/// One process goes to more places than its share of the flow table has room for. Each is counted, or
/// refused and told; and from such a log nothing is made unless somebody asks for it.
#[test]
fn more_destinations_than_the_quota_are_told_and_make_no_rules() {
    needs_root!();
    let (full, quota) = match env::var_os("EGRESS_TRACER_FULL") {
        Some(_) => (1_000_000, "4096"),
        None => (20_000, "256"),
    };
    let world = World::new();
    let out = world.path("out");
    let script = path_text(&world.client_script());
    let mut tracer = world.client().command(egress_tracer().unwrap());
    tracer.args(["run", "--workload", "far", "--cgroup-quota", quota, "-o"]);
    tracer.arg(&out).args(["--", "python3", &script, "far"]);
    lab::output(tracer.args(["203.0.113.0", &full.to_string()])).unwrap();
    let log = lab::Log::read(&out.join("flows.jsonl")).unwrap();
    let told = log.of_type("stop").last().unwrap()["count"].as_u64();
    let refused = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "cgroup-quota");
    let mut lost = 0;
    for gap in refused {
        let of = (gap["workload"].as_str(), gap["severity"].as_str());
        assert_eq!(of, (Some("far"), Some("destinations")), "{gap}");
        lost += gap["lost"].as_u64().unwrap();
    }
    assert!(lost > 0, "the quota was not used up");
    assert_eq!(told.unwrap() + lost, full);
    println!("{full} destinations: {lost} refused");
    let generate = |more: &[&str]| {
        let mut command = Command::new(egress_tracer().unwrap());
        command
            .arg("generate")
            .arg(&out)
            .arg("-o")
            .arg(world.path("made.toml"));
        command.args(more).output().unwrap().status.code()
    };
    assert_eq!(generate(&[]), Some(3));
    assert!(!world.path("made.toml").exists());
    assert_eq!(generate(&["--allow-incomplete"]), Some(0));
}
