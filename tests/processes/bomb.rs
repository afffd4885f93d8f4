//! A fork bomb: memory stays bounded, what was forgotten is told, and no flow is lost.

use std::{fs, time::Duration};

use lab::{Cgroup, Daemon, Log, Process, binary, is_root_or_skip};

/// How many processes; `EGRESS_TRACER_BOMB` asks for others.
const PROCESSES: u32 = 200_000;
/// Connections meanwhile.
const CONNECTIONS: u64 = 20_000;
/// For what is known of processes.
const MEMORY: u64 = 256 << 10;
/// Beyond that setting: events on their way, and what the allocator holds on to.
const SLACK: u64 = 12 << 20;

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

#[test]
fn a_fork_bomb_costs_bounded_memory_and_no_flow() {
    if !is_root_or_skip("a_fork_bomb_costs_bounded_memory_and_no_flow") {
        return;
    }
    let asked = std::env::var("EGRESS_TRACER_BOMB").ok();
    let processes = asked.map_or(PROCESSES, |count| count.parse().unwrap());
    let cgroup = Cgroup::new("bomb").unwrap();
    let name = cgroup.relative();
    let output = tempfile::tempdir().unwrap();
    let memory = MEMORY.to_string();
    let options = ["--cgroup", &name, "--process-memory", &memory];
    let daemon = Daemon::start(output.path(), &options).unwrap();
    let before = resident(daemon.pid());

    let load = binary("load-generator").unwrap();
    let connections = CONNECTIONS.to_string();
    let mut sender =
        Process::spawn(
            cgroup
                .command(&load)
                .args(["connects", &connections, "100", "2", "0"]),
        )
        .unwrap();
    let mut bomb =
        Process::spawn(
            cgroup
                .command(&load)
                .args(["bomb", &processes.to_string(), "2"]),
        )
        .unwrap();
    let mut most = before;
    while bomb.status().unwrap().is_none() {
        most = most.max(resident(daemon.pid()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sender.wait(Duration::from_secs(60)).unwrap().success());
    // One more flow, so that the last gap has a log to be told in.
    let once = ["once", "127.0.0.1:9", "x"];
    lab::output(cgroup.command(&load).args(once)).unwrap();
    daemon.stop().unwrap();

    let log = Log::read(&output.path().join(&name[1..]).join("flows.jsonl")).unwrap();
    let total: u64 = log.flows().filter_map(|flow| flow["count"].as_u64()).sum();
    assert_eq!(total, CONNECTIONS + 1);
    let stats = &log.of_type("stats").last().unwrap()["counters"];
    let counter = |name: &str| stats[name].as_u64().unwrap();
    let forgotten = counter("processes_evicted") + counter("process_ring_full");
    let told: u64 = log
        .of_type("gap")
        .inspect(|gap| {
            assert_eq!(
                (&gap["what"], &gap["severity"]),
                (&"process".into(), &"detail".into())
            );
        })
        .filter_map(|gap| gap["lost"].as_u64())
        .sum();
    eprintln!(
        "{processes} processes: {} → {} KiB resident; {} events, {} evicted, {} lost, {told} told",
        before >> 10,
        most >> 10,
        counter("process_events"),
        counter("processes_evicted"),
        counter("process_ring_full"),
    );
    assert!(counter("process_events") + counter("process_ring_full") >= 2 * u64::from(processes));
    assert!(told > 0 && told <= forgotten, "{told} of {forgotten}");
    assert!(most <= before + MEMORY + SLACK, "{before} → {most}");
}
