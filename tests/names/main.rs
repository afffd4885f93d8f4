//! Rules by name in a real kernel: recorded from the wire, approved, loaded, and their sets filled
//! while the workload asks. Needs root, nft and dumpcap; without, it is skipped.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test")]

mod dns;
mod hostile;
mod latency;
mod others;
mod world;

use std::{collections::BTreeSet, fs, net::Ipv4Addr, process::Command};

use dns::{ask, ask_by_tcp, labels};
use nix::sys::signal::Signal;
use world::{CLIENT, OUTSIDE, RESOLVER, World, connects, visit};

/// Whether the tests can run here; says why not.
pub(crate) fn ready(test: &str) -> bool {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let missing: Vec<&str> = ["dumpcap", "ip", "nft", "nsenter"]
        .into_iter()
        .filter(|tool| !has(tool))
        .collect();
    let root = nix::unistd::Uid::effective().is_root();
    if !root || !missing.is_empty() {
        eprintln!("SKIPPED {test}: needs root, and {}", missing.join(", "));
    }
    root && missing.is_empty()
}

/// A world with a policy by name, recorded from the wire and approved, and with its rules loaded.
pub(crate) fn approved_world(names: &[&str], visits: usize) -> World {
    let world = World::new();
    record(&world, names, visits);
    world.must(&[
        "generate",
        "run-a.pcapng",
        "--local",
        CLIENT,
        "--workload",
        "w",
        "-o",
        "policy.toml",
    ]);
    let resolver = RESOLVER.trim_end_matches(":53");
    enforce(&world, &[&[resolver], names].concat());
    world
}

/// Approves what the policy says of these destinations, and loads the rules that follow.
pub(crate) fn enforce(world: &World, approved: &[&str]) {
    let reason = ["--reason", "what the test is about", "--owner", "tests"];
    let approve = ["policy", "approve", "policy.toml"];
    world.must(&[&approve[..], approved, &reason].concat());
    let render = ["render", "policy.toml", "--format", "nftables"];
    world.must(&[&render[..], &["-o", "rules.nft"]].concat());
    world.load("rules.nft");
}

/// Run A: each name is visited, and asked for over TCP once.
fn record(world: &World, names: &[&str], visits: usize) {
    world.record("run-a.pcapng", || {
        world.as_workload(|| {
            for name in names {
                assert!((0..visits).all(|_| visit(name).is_some()), "{name}");
                ask_by_tcp(RESOLVER.parse().unwrap(), &labels(name)).unwrap();
            }
        });
    });
}

#[test]
fn addresses_that_were_never_recorded_pass_by_name_and_nothing_else_does() {
    if !ready("addresses_that_were_never_recorded_pass_by_name_and_nothing_else_does") {
        return;
    }
    let world = approved_world(&["rotate.example"], 100);
    let policy = fs::read_to_string(world.path("policy.toml")).unwrap();
    assert!(policy.contains("to = \"rotate.example\""), "{policy}");
    assert!(
        !policy.contains("198.18."),
        "an address of the name is an entry:\n{policy}"
    );

    let companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    let seen: BTreeSet<Ipv4Addr> = (0..100)
        .map(|_| world.visit("rotate.example").expect("run B is dropped"))
        .collect();
    assert_eq!(seen.len(), 100, "the addresses did not rotate");
    assert!(
        !world.as_workload(|| connects(OUTSIDE)),
        "an address outside passes"
    );
    // A name beside it opens nothing, nor does one below it.
    for other in ["other.example", "below.rotate.example"] {
        assert_eq!(world.visit(other), None, "{other}");
    }

    // The rules are loaded again while the companion runs: it fills them again.
    let known = *seen.last().unwrap();
    world.load("rules.nft");
    let refilled = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        world.as_workload(|| connects(known))
    });
    assert!(refilled, "sets stay empty: {}", world.companion_said());

    // The same by address breaks: that is what names are for.
    drop(companion);
    let by_address = [
        "generate",
        "run-a.pcapng",
        "--local",
        CLIENT,
        "--workload",
        "w",
        "--by",
        "address",
        "--format",
        "nftables",
        "--verdict",
        "drop",
        "-o",
        "by-address.nft",
    ];
    world.must(&by_address);
    world.load("by-address.nft");
    assert_eq!(
        world.visit("rotate.example"),
        None,
        "rules by address follow a name"
    );
}

#[test]
fn answers_over_tcp_and_by_way_of_aliases_count() {
    if !ready("answers_over_tcp_and_by_way_of_aliases_count") {
        return;
    }
    let names = ["chain.example", "xn--bcher-kva.example"];
    let world = approved_world(&names, 2);
    let _companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    for name in names {
        assert!(world.visit(name).is_some(), "{name}");
        let reached = world.as_workload(|| {
            let address = ask_by_tcp(RESOLVER.parse().unwrap(), &labels(name)).unwrap();
            connects(address)
        });
        assert!(reached, "{name} over TCP");
    }
    // Where the alias leads to is not approved under its own name.
    assert_eq!(world.visit("cdn.example"), None);
}

#[test]
fn answers_pass_and_are_counted_when_the_companion_dies() {
    if !ready("answers_pass_and_are_counted_when_the_companion_dies") {
        return;
    }
    let world = approved_world(&["rotate.example"], 2);
    let mut companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    let known = world.visit("rotate.example").unwrap();
    assert_eq!(world.counted("egress_tracer_names", "unheld"), 0);
    companion.signal(Signal::SIGKILL);
    companion.0.wait().unwrap();
    let fresh = world.as_workload(|| ask(RESOLVER.parse().unwrap(), 1, &labels("rotate.example")));
    let fresh = fresh.expect("the answer did not pass");
    assert_eq!(world.counted("egress_tracer_names", "unheld"), 1);
    assert!(
        world.as_workload(|| connects(known)),
        "what was held is gone"
    );
    assert!(!world.as_workload(|| connects(fresh)));
    // The next one takes over.
    fs::remove_file(world.path("ready")).unwrap();
    let next = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    assert!(world.visit("rotate.example").is_some());
    // Ended in good order, it takes its own table away.
    next.signal(Signal::SIGTERM);
    let mut next = next;
    assert!(
        next.0.wait().unwrap().success(),
        "{}",
        world.companion_said()
    );
    let listed = world
        .command("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    assert!(!world::said(&listed).contains("egress_tracer_names"));
}

#[test]
fn without_a_resolver_or_a_set_it_says_so() {
    if !ready("without_a_resolver_or_a_set_it_says_so") {
        return;
    }
    let world = World::new();
    let entry = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n[[allow]]\n\
                 to = \"a.example\"\nports = [\"443/tcp\"]\nstatus = \"candidate\"\n";
    let resolver = "[[allow]]\nto = \"198.51.100.53\"\nports = [\"53/tcp\", \"53/udp\"]\n\
                    status = \"candidate\"\n";
    let names = |policy: &str, arguments: &[&str]| {
        fs::write(world.path("p.toml"), policy).unwrap();
        let mut command = world.command(env!("CARGO_BIN_EXE_egress-tracer"));
        command.args(["names", "p.toml"]).args(arguments);
        let output = command.current_dir(world.path(".")).output().unwrap();
        (output.status.code(), world::said(&output))
    };
    let (code, text) = names(entry, &[]);
    assert!(
        code == Some(1) && text.contains("nothing is approved by name"),
        "{text}"
    );
    let (code, text) = names(entry, &["--include-unreviewed"]);
    assert!(
        code == Some(1) && text.contains("no resolver is approved"),
        "{text}"
    );
    let both = format!("{entry}{resolver}");
    let (code, text) = names(&both, &["--include-unreviewed"]);
    assert!(
        code == Some(2) && text.contains("load the rules first"),
        "{text}"
    );
    let empty = world
        .command("nft")
        .args(["add", "table", "inet", "egress_tracer"])
        .status();
    assert!(empty.unwrap().success());
    let (code, text) = names(&both, &["--include-unreviewed"]);
    assert!(code == Some(2) && text.contains("--name-sets"), "{text}");
}
