//! The closed loop, with real containers: what a container does is recorded, the rules made from
//! it are loaded into its network namespace, and then the same passes and everything else does
//! not. Needs root; without, it is skipped.

#![expect(clippy::unwrap_used, reason = "a test")]

mod expected;
mod rules;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use expected::{Flow, flows_of};
use lab::{
    Container, ContainerSpec, DNS, Daemon, Docker, Image, Internet, Kind, Log, Network, Plan,
    agent_image, egress_tracer, is_root_or_skip, output, unique,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Addresses of the one name that has eight.
const EIGHT: [&str; 8] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.4",
    "203.0.113.5",
    "203.0.113.6",
    "203.0.113.7",
    "203.0.113.8",
];

/// What the workload does on either network. The resolver is asked as glibc does it.
const STEPS: &str = "\
tcp 198.51.100.20:443 \
tcp 198.51.100.20:8443 \
repeat 3 tcp 198.51.100.30:6333 :: \
udp 198.51.100.40:8125 \
repeat 2 udp 198.51.100.40:8126 :: \
udp-connected 198.51.100.41:4317 \
udp-probe 198.51.100.77:9 \
ntp 198.51.100.123:123 \
fork 2 tcp 203.0.113.80:443 :: \
lookup eight.example 443";

/// Refused, an attempt all the same, and no candidate: nothing there has ever answered.
const REFUSED: &str = "tcp 198.51.100.20:444";

/// Only where the container has IPv6.
const STEPS_V6: &str = "\
tcp [2001:db8::30]:443 \
udp [2001:db8::31]:8125 \
udp-connected [2001:db8::32]:4317";

fn plan() -> Plan {
    let plan = Plan::new()
        .name("eight.example", &EIGHT)
        .server(Kind::TcpEcho, "198.51.100.20:443")
        .server(Kind::TcpEcho, "198.51.100.20:8443")
        .server(Kind::TcpEcho, "198.51.100.30:6333")
        .server(Kind::UdpEcho, "198.51.100.40:8125")
        .server(Kind::UdpEcho, "198.51.100.40:8126")
        .server(Kind::UdpEcho, "198.51.100.41:4317")
        .server(Kind::Ntp, "198.51.100.123:123")
        .server(Kind::TcpEcho, "203.0.113.80:443")
        .server(Kind::TcpEcho, "203.0.113.90:443")
        .server(Kind::UdpEcho, "203.0.113.90:53")
        .server(Kind::TcpEcho, "[2001:db8::30]:443")
        .server(Kind::UdpEcho, "[2001:db8::31]:8125")
        .server(Kind::UdpEcho, "[2001:db8::32]:4317")
        .server(Kind::TcpEcho, "[2001:db8::90]:443");
    EIGHT.iter().fold(plan, |plan, ip| {
        plan.server(Kind::TcpEcho, &format!("{ip}:443"))
    })
}

/// What [`STEPS`] must leave in the log, apart from names being asked for.
fn expected_v4() -> Vec<Flow> {
    vec![
        Flow::new("tcp", "198.51.100.20", 443, "connect", 1),
        Flow::new("tcp", "198.51.100.20", 8443, "connect", 1),
        Flow::new("tcp", "198.51.100.30", 6333, "connect", 3),
        Flow::new("tcp", "198.51.100.20", 444, "connect", 1),
        Flow::new("udp", "198.51.100.40", 8125, "sendmsg", 1),
        Flow::new("udp", "198.51.100.40", 8126, "sendmsg", 2),
        Flow::new("udp", "198.51.100.41", 4317, "udp-connect", 1),
        Flow::new("udp", "198.51.100.77", 9, "udp-probe", 1),
        Flow::new("udp", "198.51.100.123", 123, "sendmsg", 1),
        Flow::new("tcp", "203.0.113.80", 443, "connect", 2),
    ]
}

fn expected_v6() -> Vec<Flow> {
    vec![
        Flow::new("tcp", "2001:db8::30", 443, "connect", 1),
        Flow::new("udp", "2001:db8::31", 8125, "sendmsg", 1),
        Flow::new("udp", "2001:db8::32", 4317, "udp-connect", 1),
    ]
}

/// Where the container is, and what it can do there.
struct Setting {
    network: Option<Network>,
    steps: String,
    expected: Vec<Flow>,
}

#[test]
fn on_the_default_bridge() {
    if !is_root_or_skip("on_the_default_bridge") {
        return;
    }
    let docker = Docker::start().unwrap();
    close_the_loop(
        &docker,
        &Setting {
            network: None,
            steps: STEPS.to_owned(),
            expected: expected_v4(),
        },
    );
}

#[test]
fn on_a_network_of_its_own() {
    if !is_root_or_skip("on_a_network_of_its_own") {
        return;
    }
    let docker = Docker::start().unwrap();
    let network = docker.network().unwrap();
    let expected = [expected_v4(), expected_v6()].concat();
    close_the_loop(
        &docker,
        &Setting {
            network: Some(network),
            steps: format!("{STEPS} {STEPS_V6}"),
            expected,
        },
    );
}

fn close_the_loop(docker: &Docker, setting: &Setting) {
    let _internet = Internet::on_host(&plan()).unwrap();
    let image = agent_image(docker).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let recorded = record(docker, &image, setting, directory.path());
    let folder = directory.path().join(&recorded);

    let log = Log::read(&folder.join("flows.jsonl")).unwrap();
    check_flows(&log, setting);
    check_attribution(&log, &recorded);
    check_candidates(&folder, &log);
    check_generate_agrees(&folder);
    rules::enforce(docker, &image, setting, &folder);
}

/// Records one session of the workload while a neighbour does something else; returns the
/// workload's name.
fn record(docker: &Docker, image: &Image, setting: &Setting, directory: &Path) -> String {
    // Both are recorded; what else runs on this machine is not this test's business.
    let daemon = Daemon::start(directory, &["--container", "lab-*"]).unwrap();
    let name = unique("loop");
    let neighbour = unique("neighbour");
    let steps = format!("{} {REFUSED}", setting.steps);
    let steps: Vec<&str> = steps.split_whitespace().collect();
    let workload = spec(image, setting)
        .name(&name)
        .command(&steps)
        .run(docker)
        .unwrap();
    let other = spec(image, setting)
        .name(&neighbour)
        .command(&[
            "repeat",
            "5",
            "tcp",
            "203.0.113.90:443",
            "udp",
            "203.0.113.90:53",
        ])
        .run(docker)
        .unwrap();
    assert_eq!(workload.wait(MINUTE).unwrap(), 0);
    assert_eq!(other.wait(MINUTE).unwrap(), 0);
    daemon.stop().unwrap();

    let log = Log::read(&directory.join(&neighbour).join("flows.jsonl")).unwrap();
    assert_eq!(
        flows_of(&log),
        BTreeSet::from([
            Flow::new("tcp", "203.0.113.90", 443, "connect", 5),
            Flow::new("udp", "203.0.113.90", 53, "sendmsg", 5),
        ])
    );
    name
}

fn spec(image: &Image, setting: &Setting) -> ContainerSpec {
    let spec = ContainerSpec::new(image).dns(DNS);
    match &setting.network {
        Some(network) => spec.network(network),
        None => spec,
    }
}

/// Exactly what was done, and what asking for one name takes.
fn check_flows(log: &Log, setting: &Setting) {
    let found = flows_of(log);
    let expected: BTreeSet<Flow> = setting.expected.iter().cloned().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert_eq!(missing, Vec::<&Flow>::new(), "of {found:#?}");

    let rest: BTreeSet<Flow> = found.difference(&expected).cloned().collect();
    let (eight, resolver): (Vec<Flow>, Vec<Flow>) = rest
        .into_iter()
        .partition(|flow| EIGHT.contains(&flow.ip.as_str()));
    check_eight(&eight);
    check_resolver(&resolver, setting.network.is_some());
    let twice: BTreeSet<_> = log
        .to("203.0.113.80", Some(443))
        .map(|flow| flow["pid"].as_u64())
        .collect();
    assert_eq!(twice.len(), 2, "two processes are two flows");
}

/// glibc connects a datagram socket to each of the eight addresses, and then one stream.
fn check_eight(found: &[Flow]) {
    let connected: Vec<_> = found
        .iter()
        .filter(|flow| flow.channel == "connect")
        .collect();
    assert_eq!(connected.len(), 1, "{found:#?}");
    assert_eq!(
        (connected[0].protocol.as_str(), connected[0].count),
        ("tcp", 1)
    );
    let probes: BTreeSet<_> = found
        .iter()
        .filter(|flow| flow.channel == "udp-probe")
        .map(|flow| flow.ip.as_str())
        .collect();
    assert_eq!(probes, BTreeSet::from(EIGHT));
    assert_eq!(found.len(), 1 + EIGHT.len(), "{found:#?}");
}

/// The container asks Docker's resolver where there is one, and that asks the server from
/// inside the container's network namespace.
fn check_resolver(found: &[Flow], own_network: bool) {
    // Docker also talks to the resolver that it has just set up, over loopback.
    let is_engines_own = |flow: &&Flow| flow.via.is_some() && flow.ip == "127.0.0.1";
    let asked: BTreeSet<_> = found
        .iter()
        .filter(|flow| !is_engines_own(flow))
        .map(|flow| (flow.ip.as_str(), flow.port, flow.via.as_deref()))
        .collect();
    let expected = if own_network {
        BTreeSet::from([("127.0.0.11", 53, None), (DNS, 53, Some("engine"))])
    } else {
        BTreeSet::from([(DNS, 53, None)])
    };
    assert_eq!(asked, expected, "{found:#?}");
}

fn check_attribution(log: &Log, name: &str) {
    for flow in log.flows() {
        assert_eq!(flow["container"]["name"], name, "{flow}");
        assert_eq!(flow["container"]["runtime"], "docker", "{flow}");
        assert_eq!(flow["workload"], name, "{flow}");
        if flow["via"].is_null() {
            assert!(
                flow["exe"]
                    .as_str()
                    .is_none_or(|exe| exe == "/sample-agent"),
                "{flow}"
            );
            assert_eq!(flow["comm"], "sample-agent", "{flow}");
        } else {
            assert_eq!(flow["comm"], "dockerd", "{flow}");
        }
    }
    let counts = |kind| log.of_type(kind).count();
    assert_eq!((counts("start"), counts("stop")), (1, 1));
    let missing: Vec<_> = log
        .of_type("gap")
        .filter(|gap| gap["severity"] == "destinations")
        .collect();
    assert_eq!(missing, Vec::<&serde_json::Value>::new());
    let stop = log.of_type("stop").next().unwrap();
    let total: u64 = log
        .flows()
        .map(|flow| flow["count"].as_u64().unwrap())
        .sum();
    assert_eq!(stop["count"].as_u64().unwrap(), total);
}

/// One candidate for the name and none for its addresses, probes and loopback.
fn check_candidates(folder: &Path, log: &Log) {
    let policy = fs::read_to_string(folder.join("policy.toml")).unwrap();
    let entries = |to: &str| policy.matches(&format!("to = \"{to}\"")).count();
    assert_eq!(entries("eight.example"), 1, "{policy}");
    let by_address: Vec<&str> = EIGHT.into_iter().filter(|ip| entries(ip) > 0).collect();
    assert_eq!(by_address, Vec::<&str>::new(), "{policy}");
    assert!(!policy.contains("198.51.100.77"), "{policy}");
    assert!(!policy.contains("444/tcp"), "{policy}");
    assert!(!policy.contains("127.0.0.11"), "{policy}");
    assert!(policy.contains(&format!("to = \"{DNS}\"")), "{policy}");
    assert!(log.flows().count() > 10);
}

fn check_generate_agrees(folder: &Path) {
    let again = tempfile::tempdir().unwrap();
    let mut generate = Command::new(egress_tracer().unwrap());
    generate
        .arg("generate")
        .arg(folder)
        .arg("-o")
        .arg(again.path());
    output(&mut generate).unwrap();
    for file in [
        "policy.toml",
        "policy.evidence.json",
        "rules.nft",
        "rules.v4",
        "rules.v6",
    ] {
        let theirs = fs::read_to_string(folder.join(file)).unwrap();
        let ours = fs::read_to_string(again.path().join(file)).unwrap();
        assert_eq!(theirs, ours, "{file}");
    }
}

/// Runs steps in a container that is there; one line a step.
fn run_steps(container: &Container, steps: &str) -> String {
    let mut command = vec!["/sample-agent"];
    command.extend(steps.split_whitespace());
    container.exec(&command).unwrap()
}
