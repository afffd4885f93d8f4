//! Destinations that the host rewrites for containers: a service address, and what is behind it.
//!
//! The host is a namespace of its own in which the tracer runs as well, so that no rule touches
//! the machine's own tables.

use std::{
    fs,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Internet, Kind, Log, Namespace, Plan, Router, egress_tracer};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{agent, finish, needs_root, total};

/// A host, a container behind it, and a folder.
struct Scene {
    host: Router,
    container: Namespace,
    folder: TempDir,
}

impl Scene {
    fn new(host: Router) -> Self {
        let (container, _interface) = host.container("container", 1).unwrap();
        Self {
            host,
            container,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn load(&self, rules: &str) {
        let path = self.folder.path().join("host.nft");
        fs::write(&path, rules).unwrap();
        self.host.load(&path).unwrap();
    }

    /// Has the agent in the container recorded by a tracer on the host.
    fn record(&self, steps: &str) -> Log {
        let out = self.path("out");
        let mut run = self.host.net().command(egress_tracer().unwrap());
        run.args(["run", "-o", &out, "--workload", "w", "--"])
            .args(inside(&self.container))
            .args(steps.split_whitespace());
        let ran = finish(&mut run);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        Log::read(&self.folder.path().join("out/flows.jsonl")).unwrap()
    }
}

/// The agent inside a namespace.
fn inside(net: &Namespace) -> [String; 4] {
    let net = format!("--net={}", net.path().display());
    ["nsenter".to_owned(), net, "--".to_owned(), agent()]
}

/// Where the host sent what was asked to go to `ip` and `port`, each once; `None`: nowhere else.
fn sent(log: &Log, ip: &str, port: u16) -> Vec<Option<String>> {
    let place = |flow: &Value| {
        let to = flow.get("translated")?;
        assert_eq!(to["by"], "host", "{flow}");
        Some(format!("{} {}", to["ip"].as_str().unwrap(), to["port"]))
    };
    let mut all: Vec<_> = log.later_too(ip, Some(port)).map(place).collect();
    all.sort();
    all.dedup();
    all
}

fn some(places: &[&str]) -> Vec<Option<String>> {
    places
        .iter()
        .map(|place| Some((*place).to_owned()))
        .collect()
}

#[test]
fn every_backend_of_a_service_address_is_told() {
    needs_root!();
    let scene = Scene::new(Router::new("host").unwrap());
    scene.load(
        "table ip kube {
            chain prerouting {
                type nat hook prerouting priority -100
                ip daddr 198.51.100.10 tcp dport 80 dnat to numgen inc mod 3 map \
                    { 0 : 203.0.113.1 . 8080, 1 : 203.0.113.2 . 8080, 2 : 203.0.113.3 . 8081 }
                ip daddr 198.51.100.10 udp dport 53 dnat to 203.0.113.53:5353
            }
        }
        table ip6 kube {
            chain prerouting {
                type nat hook prerouting priority -100
                ip6 daddr 2001:db8::10 tcp dport 443 dnat to [2001:db8::20]:6443
            }
        }",
    );
    let log = scene.record(
        "repeat 9 tcp-start 198.51.100.10:80 :: tcp-start 198.51.100.10:81 \
         tcp-start [2001:db8::10]:443 \
         socket 4 to 198.51.100.10:53 2 :: socket 4 connect 198.51.100.10:53 send 3 :: sleep 200",
    );
    let backends = ["203.0.113.1 8080", "203.0.113.2 8080", "203.0.113.3 8081"];
    assert_eq!(sent(&log, "198.51.100.10", 80), some(&backends));
    assert_eq!(log.count("198.51.100.10", 80), 9);
    assert_eq!(
        sent(&log, "198.51.100.10", 53),
        some(&["203.0.113.53 5353"])
    );
    assert_eq!(
        sent(&log, "2001:db8::10", 443),
        some(&["2001:db8::20 6443"])
    );
    assert_eq!(sent(&log, "198.51.100.10", 81), [None]);
    let policy = fs::read_to_string(scene.path("out/policy.toml")).unwrap();
    assert!(
        policy.contains("\"443/tcp to [2001:db8::20]:6443 by host\""),
        "{policy}"
    );
}

#[test]
fn iptables_that_choose_a_backend_by_chance_are_told_as_well() {
    needs_root!();
    let scene = Scene::new(Router::new("host").unwrap());
    // As kube-proxy writes them.
    let rules = "*nat
:KUBE-SVC - [0:0]
-A PREROUTING -d 198.51.100.10/32 -p tcp -m tcp --dport 443 -j KUBE-SVC
-A KUBE-SVC -m statistic --mode random --probability 0.33333333349 -p tcp -j DNAT --to-destination 203.0.113.1:6443
-A KUBE-SVC -m statistic --mode random --probability 0.50000000000 -p tcp -j DNAT --to-destination 203.0.113.2:6443
-A KUBE-SVC -p tcp -j DNAT --to-destination 203.0.113.3:6443
COMMIT
";
    let path = scene.path("rules.v4");
    fs::write(&path, rules).unwrap();
    let mut restore = scene.host.net().command("iptables-restore");
    lab::output(restore.arg(&path)).unwrap();
    let log = scene.record("repeat 100 tcp-start 198.51.100.10:443 :: sleep 200");
    let backends = ["203.0.113.1 6443", "203.0.113.2 6443", "203.0.113.3 6443"];
    assert_eq!(sent(&log, "198.51.100.10", 443), some(&backends));
    assert_eq!(log.count("198.51.100.10", 443), 100);
}

/// Two containers have the same address, each behind an interface and in a zone of its own, and
/// the host sends what they ask for to different places.
#[test]
fn containers_that_share_an_address_keep_their_rewrites_apart() {
    needs_root!();
    let scene = Scene::new(Router::new("host").unwrap());
    let (other, second) = scene.host.container("other", 1).unwrap();
    scene.load(&format!(
        "table ip zones {{
            chain zone {{
                type filter hook prerouting priority raw
                iifname \"{second}\" ct original zone set 7
            }}
            chain prerouting {{
                type nat hook prerouting priority -100
                iifname \"{second}\" ip daddr 198.51.100.10 tcp dport 80 dnat to 203.0.113.2:80
                ip daddr 198.51.100.10 tcp dport 80 dnat to 203.0.113.1:80
            }}
        }}"
    ));
    let cgroups = [Cgroup::new("one").unwrap(), Cgroup::new("two").unwrap()];
    let names = cgroups.each_ref().map(Cgroup::relative);
    let arguments: Vec<&str> = names.iter().flat_map(|name| ["--cgroup", name]).collect();
    let tracer = scene.host.net().command(egress_tracer().unwrap());
    let daemon = Daemon::start_by(tracer, &scene.folder.path().join("d"), &arguments).unwrap();
    for (cgroup, net) in cgroups.iter().zip([&scene.container, &other]) {
        let mut agent = cgroup.command(&inside(net)[0]);
        agent.args(&inside(net)[1..]).stdout(Stdio::null());
        agent.args(["tcp-start", "198.51.100.10:80"]);
        assert!(agent.status().unwrap().success());
    }
    let expected = ["203.0.113.1 80", "203.0.113.2 80"];
    for (name, backend) in names.iter().zip(expected) {
        let log = daemon.log_until(&name[1..], |log| total(log) >= 1).unwrap();
        assert_eq!(sent(&log, "198.51.100.10", 80), some(&[backend]), "{name}");
    }
    daemon.stop().unwrap();
}

fn generate(scene: &Scene, options: &[&str], to: &str) -> String {
    let mut generate = Command::new(egress_tracer().unwrap());
    generate
        .args([
            "generate",
            &scene.path("out"),
            "--verdict",
            "drop",
            "-o",
            to,
        ])
        .args(options);
    let ran = finish(&mut generate);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fs::read_to_string(to).unwrap()
}

fn passes(net: &Namespace, step: &str) -> bool {
    let told = lab::output(net.command(agent()).args(step.split(' '))).unwrap();
    told.contains(": ok ")
}

/// Rules in the container's namespace hold what it asks for, rules for forwarded traffic what the
/// host has made of it.
#[test]
fn each_rule_holds_what_is_seen_where_it_is_enforced() {
    needs_root!();
    let plan = Plan::new()
        .server(Kind::TcpEcho, "203.0.113.20:8080")
        .server(Kind::TcpEcho, "203.0.113.21:8080");
    let internet = Internet::start(&plan).unwrap();
    let host = Router::unconnected("host").unwrap();
    internet.connect(host.net()).unwrap();
    let scene = Scene::new(host);
    scene.load(
        "table ip kube {
            chain prerouting {
                type nat hook prerouting priority -100
                ip daddr 198.51.100.10 tcp dport 80 dnat to 203.0.113.20:8080
                ip daddr 198.51.100.11 tcp dport 80 dnat to 203.0.113.21:8080
            }
            chain postrouting {
                type nat hook postrouting priority 100
                masquerade
            }
        }",
    );
    let log = scene.record("tcp 198.51.100.10:80");
    assert_eq!(
        sent(&log, "198.51.100.10", 80),
        some(&["203.0.113.20 8080"])
    );

    let (work, other) = ("tcp 198.51.100.10:80", "tcp-abandon 198.51.100.11:80 2000");
    assert!(passes(&scene.container, other), "nothing is in force yet");
    let path = scene.path("forward.nft");
    let scope = [
        "--format",
        "nftables",
        "--hook",
        "forward",
        "--source",
        "10.88.1.2",
    ];
    let forward = generate(&scene, &scope, &path);
    assert!(!forward.contains("198.51.100.10 . tcp"), "{forward}");
    scene.host.load(path.as_ref()).unwrap();
    assert!(passes(&scene.container, work), "{forward}");
    assert!(!passes(&scene.container, other), "{forward}");
    let mut delete = scene.host.net().command("nft");
    lab::output(delete.args(["delete", "table", "inet", "egress_tracer"])).unwrap();

    let path = scene.path("output.nft");
    let output = generate(&scene, &["--format", "nftables"], &path);
    assert!(!output.contains("203.0.113.20"), "{output}");
    let mut load = scene.container.command("nft");
    lab::output(load.args(["-f", &path])).unwrap();
    assert!(passes(&scene.container, work), "{output}");
    assert!(!passes(&scene.container, other), "{output}");

    let network = ["--format", "networkpolicy", "--pod-label", "app=w"];
    let network = generate(&scene, &network, &scene.path("network.yaml"));
    for address in ["198.51.100.10/32", "203.0.113.20/32"] {
        assert!(network.contains(address), "{network}");
    }
}
