//! What a destination is there for, and whose it is.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};

use crate::world::{SERVER, World, needs_root, path_text};

fn labels(log: &Log, ip: &str, port: u16) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let mut found: Vec<_> = log
        .to(ip, Some(port))
        .map(|flow| (text(&flow["role"]), text(&flow["peer"])))
        .collect();
    found.dedup();
    found
}

#[test]
fn what_a_destination_is_for_is_told_in_log_and_evidence() {
    needs_root!();
    let world = World::new();
    let own = world.client_address();
    let log = world.record(&format!(
        "udp {SERVER}:53 udp {SERVER}:123 udp {SERVER}:853 tcp {SERVER}:853 tcp {SERVER}:7 udp {own}:9"
    ));
    let of = |ip: &str, port, role: &str| {
        let expected = [(role.to_owned(), "-".to_owned())];
        assert_eq!(labels(&log, ip, port)[0], expected[0], "{ip} {port}");
    };
    of(SERVER, 53, "resolver");
    of(SERVER, 123, "ntp");
    of(SERVER, 7, "-");
    of(&own, 9, "host");
    for (protocol, role) in [("udp", "doq"), ("tcp", "dot")] {
        let mut at_dot = log.to(SERVER, Some(853));
        assert!(
            at_dot.any(|flow| flow["protocol"] == protocol && flow["role"] == role),
            "{log:?}"
        );
    }
    let evidence = fs::read_to_string(world.path("out/policy.evidence.json")).unwrap();
    for role in ["resolver", "ntp", "doq", "host"] {
        assert!(
            evidence.contains(&format!("\"role\": \"{role}\"")),
            "{evidence}"
        );
    }
    let path = world.path("out/policy.toml");
    let policy = fs::read_to_string(&path).unwrap();
    // Nobody answered at 853/tcp, which is no candidate.
    for roles in ["[\"doq\", \"ntp\", \"resolver\"]", "[\"host\"]"] {
        assert!(policy.contains(&format!("\nroles = {roles}\n")), "{policy}");
    }
    let mut list = Command::new(egress_tracer().unwrap());
    let listed = lab::output(list.args(["policy", "list"]).arg(&path)).unwrap();
    let row = |to: &str| listed.lines().find(|line| line.starts_with(to)).unwrap();
    assert!(row(&own).contains("  host  "), "{listed}");
}

/// By its name while the process is there that sent, by its number afterwards.
#[test]
fn a_link_local_address_is_told_with_its_interface() {
    needs_root!();
    let world = World::new();
    let links = world
        .client()
        .ip(&["-o", "-6", "address", "show", "to", "fe80::/10"])
        .unwrap();
    let (number, rest) = links.split_once(": ").unwrap();
    let name = rest.split(' ').next().unwrap();
    let zones = |log: &Log| -> Vec<String> {
        let flows = log.to("fe80::7", Some(7));
        flows
            .map(|flow| flow["dest_zone"].as_str().unwrap().to_owned())
            .collect()
    };
    let (said, log) = world.go("link_local", "fe80::7", 7);
    assert_eq!(said, "link_local: done\n");
    assert!(zones(&log) == [number] || zones(&log) == [name], "{log:?}");
    let cgroup = Cgroup::new("ways").unwrap();
    let chosen = cgroup.relative();
    let daemon = Daemon::start(&world.path("daemon"), &["--cgroup", &chosen]).unwrap();
    let mut stays = cgroup.command("nsenter");
    stays
        .arg(format!("--net={}", world.client().path().display()))
        .args(["--", "python3", &path_text(&world.client_script())])
        .args(["link_local_to_the_end", "fe80::7", "7"])
        .stdin(Stdio::piped());
    let stays = Process::spawn(&mut stays).unwrap();
    let is_told = |log: &Log| !zones(log).is_empty();
    let log = daemon.log_until(&chosen[1..], is_told).unwrap();
    assert_eq!(zones(&log), [name], "{log:?}");
    drop(stays);
    let (_said, log) = world.go("ask", "2001:db8::7", 7);
    assert!(
        log.flows().all(|flow| flow["dest_zone"].is_null()),
        "{log:?}"
    );
}

/// A cgroup such as Docker's, with a process in the network of the servers. Dropping it ends both.
struct Neighbour {
    path: PathBuf,
    process: Option<Process>,
}

impl Neighbour {
    fn start(world: &World, id: &str) -> Self {
        let path = lab::cgroup2_root()
            .unwrap()
            .join(format!("docker-{id}.scope"));
        fs::create_dir(&path).unwrap();
        let mut neighbour = Self {
            path,
            process: None,
        };
        let mut command = world.internet().namespace().command("sleep");
        let process = Process::spawn(command.arg("1000")).unwrap();
        let pid = process.pid().to_string();
        neighbour.process = Some(process);
        fs::write(neighbour.path.join("cgroup.procs"), pid).unwrap();
        neighbour
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.process = None;
        let end = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn another_container_is_named() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("ways").unwrap();
    let uuid = || fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let id: String = (uuid() + &uuid())
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    let neighbour = Neighbour::start(&world, &id);
    let out = world.path("daemon");
    let nobody = world.path("no-engine");
    let arguments = [
        "--cgroup",
        &cgroup.relative(),
        "--docker-socket",
        nobody.to_str().unwrap(),
    ];
    let daemon = Daemon::start(&out, &arguments).unwrap();
    // The ranges that are served are nobody's own address; the near end of the link is.
    let route = world.client().ip(&["route", "show", "default"]).unwrap();
    let near = route.split(' ').nth(2).unwrap();
    world.act(&cgroup, &format!("udp {near}:9"));
    daemon.stop().unwrap();
    let log = World::daemon_log(&out);
    let expected = ("container".to_owned(), format!("docker-{}", &id[..12]));
    let roles = format!("\nroles = [\"container {}\"]\n", expected.1);
    assert_eq!(labels(&log, near, 9), [expected]);
    let policy = fs::read_to_string(out.join(&cgroup.relative()[1..]).join("policy.toml")).unwrap();
    assert!(policy.contains(&roles), "{policy}");
    drop(neighbour);
}
