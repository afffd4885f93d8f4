//! What is done by a worker thread of io_uring's belongs to the process that asked for it.

use std::fs;

use crate::world::{World, needs_root};

const CLIENT: &str = include_str!("io_uring.py");

/// What sysctl says where io_uring may be used by all (0) or by the privileged (1).
fn is_there() -> bool {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    disabled.map_or(true, |disabled| disabled.trim() != "2")
}

#[test]
fn a_flow_of_an_io_uring_worker_belongs_to_its_process() {
    needs_root!();
    if !is_there() {
        eprintln!("skipped: io_uring is switched off (kernel.io_uring_disabled)");
        return;
    }
    let world = World::new();
    let (script, out) = (world.path("io_uring.py"), world.path("out"));
    fs::write(&script, CLIENT).unwrap();
    let (script, out) = (script.to_str().unwrap(), out.to_str().unwrap());
    let ran = world.run(
        &["-o", out, "--workload", "w"],
        &["python3", script, "198.51.100.7", "443"],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // Nobody listens there.
    let pid = ran.out.trim().strip_suffix(" 7 -111").unwrap();
    let log = world.log();
    let flows: Vec<_> = log.to("198.51.100.7", Some(443)).collect();
    let [flow] = flows[..] else {
        panic!("{flows:?}");
    };
    assert_eq!(flow["pid"].to_string(), pid, "{flow}");
    assert_ne!(flow["tid"], flow["pid"], "{flow}");
    assert_eq!(flow["comm"], format!("iou-wrk-{pid}"), "{flow}");
    assert_eq!(flow["cmdline"][1], script, "{flow}");
    let cgroup = flow["cgroup_path"].as_str().unwrap();
    assert!(cgroup.contains("egress-tracer-run-"), "{flow}");
    assert_eq!(flow["count"], 1, "{flow}");
}
