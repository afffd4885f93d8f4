//! Mixed load for minutes or hours: memory and descriptors stay as they are, and news stays fresh.
//! `EGRESS_TRACER_SOAK` says how many seconds; `cargo xtask soak` asks for an hour.

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{Cgroup, Daemon, Log};

use crate::world::{World, missing, needs_root, total};

const SECONDS: u64 = 180;
/// Within this time everything that is kept has been seen once: only then can it be flat.
const WARM_UP: u64 = 4;
/// What the allocator may keep beside: it takes memory in steps.
const ROOM_KIB: u64 = 4096;

/// What a process takes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    resident_kib: u64,
    descriptors: usize,
}

impl Taken {
    fn by(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = line.unwrap().trim().trim_end_matches(" kB").parse();
        Self {
            resident_kib: resident.unwrap(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

/// One round of what containers do; how many flows of it are counted.
fn round(world: &World, cgroup: &Cgroup, number: u64) -> u64 {
    // The same places again and again: every further one is kept for the candidates.
    let address = format!("203.0.113.{}", number % 4 + 1);
    world.act(cgroup, &format!("flood {address} 1 300"));
    world.act(cgroup, &format!("fork 3 socket 4 to {address}:9 5 :: ::"));
    world.act(
        cgroup,
        &format!("hold tcp {address}:99 repeat 20 tcp-abandon {address}:99 1000 ::"),
    );
    // A container that comes and goes.
    let short = Cgroup::new("soak-short").unwrap();
    world.act(&short, &format!("flood {address} 1 5"));
    300 + 3 * 5 + 20
}

#[test]
fn memory_and_descriptors_stay_flat_and_news_fresh() {
    needs_root!();
    let seconds = std::env::var("EGRESS_TRACER_SOAK").map_or(SECONDS, |text| text.parse().unwrap());
    println!("{seconds} s of mixed load (by default {SECONDS}, EGRESS_TRACER_SOAK for others)");
    let world = World::new();
    let [cgroup, fresh] = ["soak", "fresh"].map(|stem| Cgroup::new(stem).unwrap());
    let [name, fresh_name] = [&cgroup, &fresh].map(Cgroup::relative);
    // Chosen, so that neighbours' load is not this daemon's. News has a log of its own, which is
    // short enough to be read again and again.
    let options = ["--cgroup", &name, "--cgroup", &fresh_name];
    let kept = ["--rotate-bytes", "5000000", "--rotate-keep", "9999"];
    let options = [&options[..], &kept].concat();
    let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    let (mut made, mut number) = (0, 0);
    let mut series: Vec<Taken> = Vec::new();
    let mut lag = Duration::ZERO;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        made += round(&world, &cgroup, number);
        number += 1;
        lag = lag.max(until_told(&world, &fresh, &daemon, number));
        series.push(Taken::by(daemon.pid()));
    }
    daemon.stop().unwrap();
    let segments = world.segments(&world.path("daemon").join(&name[1..]));
    let log = Log(segments.into_iter().flat_map(|log| log.0).collect());
    assert_eq!((total(&log), missing(&log).len()), (made, 0));
    assert_flat(&series);
    println!(
        "{number} rounds, {made} attempts, the oldest news was {} ms old",
        lag.as_millis()
    );
}

/// How long it takes until one more datagram is in the log. That it takes no longer than the lab's
/// patience is the bound.
fn until_told(world: &World, cgroup: &Cgroup, daemon: &Daemon, number: u64) -> Duration {
    let port = u16::try_from(number % 60_000 + 1).unwrap();
    let sent = Instant::now();
    world.act(cgroup, &format!("flood 198.51.100.9 {port} {port}"));
    let told = |log: &Log| log.to("198.51.100.9", Some(port)).next().is_some();
    daemon.log_until(&cgroup.relative()[1..], told).unwrap();
    sent.elapsed()
}

/// The last quarter takes no more than the quarter after the first.
fn assert_flat(series: &[Taken]) {
    let quarter = series.len() / 4;
    assert!(
        quarter as u64 >= WARM_UP,
        "too few rounds: {}",
        series.len()
    );
    let early = &series[quarter..2 * quarter];
    let late = &series[series.len() - quarter..];
    let most = |part: &[Taken]| {
        let resident = part.iter().map(|taken| taken.resident_kib).max();
        // One that is open for a moment, for a segment that is being compressed, is no leak.
        let descriptors = part.iter().map(|taken| taken.descriptors).min();
        (resident.unwrap(), descriptors.unwrap())
    };
    let [(resident, descriptors), (later_resident, later_descriptors)] = [early, late].map(most);
    println!("resident {resident} KiB, later {later_resident}");
    println!("descriptors {descriptors}, later {later_descriptors}");
    assert!(later_resident <= resident + resident / 10 + ROOM_KIB);
    assert!(later_descriptors <= descriptors);
}
