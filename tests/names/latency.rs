//! Ten thousand first connections, each to an address that the workload has just learned of.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::{
    approved_world,
    dns::{ask, labels},
    ready,
    world::{RESOLVER, World, connects_within},
};

/// As many as the goal is about.
const CONNECTIONS: usize = 10_000;
/// How often the two sides of a comparison take turns.
const ROUNDS: usize = 20;
/// For a machine that does something else as well.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn no_first_syn_is_dropped() {
    if !ready("no_first_syn_is_dropped") {
        return;
    }
    let world = approved_world(&["rotate.example"], 2);
    let _companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    let before = world.retransmitted();
    visits(&world, CONNECTIONS);
    assert_eq!(
        world.counted("egress_tracer", "not_allowed"),
        0,
        "{}",
        world.companion_said()
    );
    assert_eq!(world.retransmitted(), before, "a SYN was sent again");
    assert_eq!(world.counted("egress_tracer_names", "unheld"), 0);
    // For `cargo xtask bench`: nothing is asserted about time.
    if env::var_os("EGRESS_TRACER_TIMES").is_some() {
        print_times(&world);
    }
}

/// Asking and connecting with answers held, and without anything in the way: by turns, so that
/// whatever else the machine does is in both.
fn print_times(held: &World) {
    let bare = World::new();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (world, times) in [held, &bare].into_iter().zip(&mut times) {
            times.extend(visits(world, CONNECTIONS / ROUNDS));
        }
    }
    let [held, bare] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        [0.5, 0.99].map(|share| quantile(&times, share))
    });
    println!("TIMES {held:?} {bare:?}");
}

/// How long each took, asking and connecting, in milliseconds.
fn visits(world: &World, count: usize) -> Vec<f64> {
    world.as_workload(|| {
        let one = |number: usize| {
            let start = Instant::now();
            let address = ask(RESOLVER.parse().unwrap(), 4711, &labels("rotate.example"));
            let address = address.unwrap_or_else(|| panic!("question {number}: no answer"));
            let connected = connects_within(address, PATIENCE);
            assert!(connected, "connection {number} to {address} failed");
            start.elapsed().as_secs_f64() * 1000.0
        };
        (0..count).map(one).collect()
    })
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
