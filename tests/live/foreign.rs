//! Somebody else's cgroup programs: what they deny, and what they rewrite, before us and after.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Stdio,
};

use lab::{Cgroup, Daemon, Deed, ForeignProgram, Hook, Log, cgroup2_root};

use crate::world::{World, needs_root, total};

const DENIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 251);
const REWRITTEN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 252);
const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 99), 9999);

/// Which cgroup the program is attached to, seen from the one that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Below,
    There,
    Above,
}

/// A recorded cgroup, with another one in it where the agent runs.
struct Scene {
    world: World,
    cgroup: Cgroup,
    inner: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let cgroup = Cgroup::new("foreign").unwrap();
        let inner = cgroup.path().join("inner");
        fs::create_dir(&inner).unwrap();
        Self {
            world: World::new(),
            cgroup,
            inner,
        }
    }

    fn attach(&self, place: Place, hook: Hook, deed: Deed) -> ForeignProgram {
        let root = cgroup2_root().unwrap();
        let path = match place {
            Place::Below => self.inner.clone(),
            Place::There => self.cgroup.path(),
            Place::Above => root,
        };
        ForeignProgram::attach(&path, hook, deed).unwrap()
    }

    fn daemon(&self) -> Daemon {
        let name = self.cgroup.relative();
        Daemon::start(&self.world.path("daemon"), &["--cgroup", &name]).unwrap()
    }

    /// What the agent's steps left in the log of a daemon that ends then.
    fn log(&self, daemon: Daemon, steps: &str, count: u64) -> Log {
        let mut command = in_cgroup(&self.inner);
        command
            .arg("nsenter")
            .arg(format!("--net={}", self.world.net().path().display()))
            .args(["--", &crate::world::agent()])
            .args(steps.split_whitespace())
            .stdout(Stdio::null());
        // A step that is denied says so and fails no more than that.
        assert!(command.status().unwrap().success());
        let name = self.cgroup.relative()[1..].to_owned();
        daemon.log_until(&name, |log| total(log) >= count).unwrap();
        // What never became known is told at the end.
        let path = daemon.workload(&name).join("flows.jsonl");
        daemon.stop().unwrap();
        Log::read(&path).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _left_to_the_outer_one = fs::remove_dir(&self.inner);
    }
}

fn in_cgroup(path: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
        .arg(path);
    command
}

/// Denied `before` the tracer attached or after: how many of 3 connects, 2 datagrams are known to
/// be blocked.
fn blocked(place: Place, before: bool) -> (u64, u64) {
    let scene = Scene::new();
    let attach = || {
        [Hook::Connect4, Hook::Sendmsg4].map(|hook| scene.attach(place, hook, Deed::Deny(DENIED)))
    };
    let early = before.then(attach);
    let daemon = scene.daemon();
    let _late = (!before).then(attach);
    let steps = format!(
        "repeat 3 tcp-start {DENIED}:443 :: repeat 2 udp {DENIED}:53 :: tcp-start 203.0.113.1:443"
    );
    let log = scene.log(daemon, &steps, 6);
    drop(early);
    let ip = DENIED.to_string();
    assert_eq!((log.count(&ip, 443), log.count(&ip, 53)), (3, 2));
    assert_eq!(log.outcome("203.0.113.1", 443, "blocked"), 0);
    for port in [443, 53] {
        let known = ["blocked", "unknown"].map(|outcome| log.outcome(&ip, port, outcome));
        assert_eq!(
            known.iter().sum::<u64>(),
            log.count(&ip, port),
            "sums agree"
        );
    }
    (
        log.outcome(&ip, 443, "blocked"),
        log.outcome(&ip, 53, "blocked"),
    )
}

#[test]
fn what_another_program_denied_before_is_blocked() {
    needs_root!();
    assert_eq!(blocked(Place::Below, true), (3, 2));
    assert_eq!(blocked(Place::Below, false), (3, 2));
    assert_eq!(blocked(Place::There, true), (3, 2));
}

#[test]
fn a_datagram_socket_that_may_not_connect_is_a_blocked_probe() {
    needs_root!();
    let scene = Scene::new();
    let _program = scene.attach(Place::Below, Hook::Connect4, Deed::Deny(DENIED));
    let steps = format!("repeat 2 udp-keep {DENIED}:53 :: tcp-start 203.0.113.1:443");
    let log = scene.log(scene.daemon(), &steps, 3);
    let ip = DENIED.to_string();
    let flow = log.to(&ip, Some(53)).next().unwrap();
    assert_eq!(flow["channel"], "udp-probe");
    assert_eq!(flow["outcomes"], serde_json::json!({"blocked": 2}));
}

#[test]
fn what_another_program_denies_afterwards_is_unknown() {
    needs_root!();
    assert_eq!(blocked(Place::There, false), (0, 0));
    assert_eq!(blocked(Place::Above, true), (0, 0));
}

#[test]
fn what_another_program_rewrites_is_told_beside_what_was_asked_for() {
    needs_root!();
    for (place, before) in [
        (Place::Below, true),
        (Place::There, true),
        (Place::There, false),
        (Place::Above, true),
    ] {
        let scene = Scene::new();
        let deed = Deed::Rewrite {
            from: REWRITTEN,
            to: TO,
        };
        let attach =
            || [Hook::Connect4, Hook::Sendmsg4].map(|hook| scene.attach(place, hook, deed));
        let early = before.then(attach);
        let daemon = scene.daemon();
        let _late = (!before).then(attach);
        let steps = format!(
            "tcp-start {REWRITTEN}:443 udp {REWRITTEN}:53 udp-keep {REWRITTEN}:54 \
             tcp-start 203.0.113.1:443 udp 203.0.113.1:53"
        );
        let log = scene.log(daemon, &steps, 5);
        drop(early);
        for port in [443, 53, 54] {
            let ip = REWRITTEN.to_string();
            assert_eq!(
                log.count(&ip, port),
                1,
                "{place:?} {before} {port}: {log:?}"
            );
            let flow = log.to(&ip, Some(port)).next().unwrap();
            let expected = serde_json::json!({"ip": TO.ip().to_string(), "port": TO.port()});
            assert_eq!(flow["translated"], expected, "{place:?} {before} {port}");
        }
        assert_eq!(log.to(&TO.ip().to_string(), None).count(), 0);
        assert!(
            log.to("203.0.113.1", None)
                .all(|flow| flow.get("translated").is_none())
        );
        let start = log.of_type("start").next().unwrap();
        assert!(start.get("missing").is_none(), "{start}");
    }
}
