//! Sets that another fills, sets that are full, and resolvers over IPv6.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    approved_world,
    dns::{self, Given, ask, labels},
    enforce, ready,
    world::{Guarded, OUTSIDE, RESOLVER_V6, World, connects},
};

/// dnsmasq as the workload's only resolver, with the configuration that is made for it.
fn dnsmasq(world: &World, at: SocketAddr) -> Guarded {
    let upstream = "no-resolv\nserver=198.51.100.53\nbind-interfaces\nuser=root\npid-file=\n";
    let listen = format!("listen-address={}\nport={}\n", at.ip(), at.port());
    let filled = fs::read_to_string(world.path("dnsmasq.conf")).unwrap();
    let file = world.path("whole.conf");
    fs::write(&file, format!("{upstream}{listen}{filled}")).unwrap();
    let mut command = world.command("dnsmasq");
    let dnsmasq = Guarded(command.arg("-k").arg("-C").arg(file).spawn().unwrap());
    let start = Instant::now();
    while world
        .as_workload(|| ask(at, 1, &labels("nobody.example")))
        .is_none()
    {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "dnsmasq is silent"
        );
    }
    dnsmasq
}

#[test]
fn dnsmasq_fills_the_sets_before_it_answers() {
    if !ready("dnsmasq_fills_the_sets_before_it_answers") {
        return;
    }
    let world = approved_world(&["rotate.example"], 2);
    let arguments = [
        "render",
        "policy.toml",
        "--format",
        "dnsmasq",
        "-o",
        "dnsmasq.conf",
    ];
    world.must(&arguments);
    let at = "127.0.0.1:53".parse().unwrap();
    let _dnsmasq = dnsmasq(&world, at);
    let visit = |name: &str| {
        world.as_workload(|| {
            let address = ask(at, 2, &labels(name)).unwrap();
            (address, connects(address))
        })
    };
    for _ in 0..50 {
        let (address, passed) = visit("rotate.example");
        assert!(passed, "{address}");
    }
    // As the configuration says of itself: names below are allowed too.
    assert!(visit("below.rotate.example").1);
    assert!(!visit("other.example").1);
    assert!(!world.as_workload(|| connects(OUTSIDE)));
}

#[test]
fn a_set_without_room_is_counted_and_keeps_what_it_has() {
    const ROOM: usize = 4;
    if !ready("a_set_without_room_is_counted_and_keeps_what_it_has") {
        return;
    }
    let world = approved_world(&["rotate.example"], 2);
    let rules = fs::read_to_string(world.path("rules.nft")).unwrap();
    let small = rules.replace("size 65536", &format!("size {ROOM}"));
    assert_ne!(rules, small);
    fs::write(world.path("rules.nft"), small).unwrap();
    world.load("rules.nft");
    let mut companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    let passed = |_| world.visit("rotate.example");
    let first: Vec<_> = (0..ROOM).map(passed).collect();
    assert!(first.iter().all(Option::is_some), "{first:?}");
    assert_eq!(world.visit("rotate.example"), None);
    let kept = first[0].unwrap();
    assert!(world.as_workload(|| connects(kept)));
    companion.signal(Signal::SIGTERM);
    assert!(companion.0.wait().unwrap().success());
    let said = world.companion_said();
    assert!(said.contains("1 without room"), "{said}");
}

#[test]
fn a_resolver_is_heard_over_ipv6_too() {
    if !ready("a_resolver_is_heard_over_ipv6_too") {
        return;
    }
    let world = World::new();
    let at: SocketAddr = RESOLVER_V6.parse().unwrap();
    world.as_network(|| dns::serve(at, &Given::default()).unwrap());
    let entry = |to: &str, ports: &str| {
        format!("[[allow]]\nto = \"{to}\"\nports = [{ports}]\nstatus = \"candidate\"\n")
    };
    let (name, resolver) = ("rotate.example", at.ip().to_string());
    let text = [
        "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n".to_owned(),
        entry(name, "\"443/tcp\""),
        entry(&resolver, "\"53/tcp\", \"53/udp\""),
    ];
    fs::write(world.path("policy.toml"), text.concat()).unwrap();
    enforce(&world, &[name, &resolver]);
    let _companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    for _ in 0..20 {
        let passed = world.as_workload(|| {
            let address = ask(at, 3, &labels(name)).unwrap();
            connects(address)
        });
        assert!(passed, "{}", world.companion_said());
    }
    assert!(!world.as_workload(|| connects(OUTSIDE)));
}
