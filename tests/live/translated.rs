//! Destinations that something rewrites: what the program asked for, and what left.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use lab::{Internet, Kind, Log, Namespace, Plan, Process, egress_tracer};

use crate::world::{World, agent, finish, first_line, needs_root, row, tally};

/// Rules that rewrite on the way out of the namespace.
const DNAT: &str = "table ip lab_nat {
    chain output {
        type nat hook output priority -100
        ip daddr 198.51.100.10 meta l4proto { tcp, udp } th dport 80 dnat to 203.0.113.20:8080
    }
}
table ip6 lab_nat {
    chain output {
        type nat hook output priority -100
        ip6 daddr 2001:db8::10 meta l4proto { tcp, udp } th dport 80 dnat to [2001:db8::20]:8080
    }
}
";

/// Loads rules into the world's namespace, with which they end.
fn load(world: &World, rules: &str) {
    let path = world.path("nat.nft");
    std::fs::write(&path, rules).unwrap();
    load_file(world.net(), &path);
}

fn load_file(net: &Namespace, path: &Path) {
    lab::output(net.command("nft").arg("-f").arg(path)).unwrap();
}

/// What left in place of `ip` and `port`, each once; `None`: what was asked for.
fn left(log: &Log, ip: &str, port: u16) -> Vec<Option<String>> {
    let mut all: Vec<_> = log
        .later_too(ip, Some(port))
        .map(|flow| {
            let to = flow.get("translated")?;
            Some(format!("{} {}", to["ip"].as_str().unwrap(), to["port"]))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

fn some(left: &str) -> Vec<Option<String>> {
    vec![Some(left.to_owned())]
}

#[test]
fn nat_in_the_namespace_is_told_beside_what_was_asked_for() {
    needs_root!();
    let world = World::new();
    load(&world, DNAT);
    let log = world.record(
        "tcp-start 198.51.100.10:80 tcp-start 198.51.100.10:81 \
         socket 4 to 198.51.100.10:80 3 to 198.51.100.10:53 1 :: \
         socket 4 connect 198.51.100.10:80 send 1 :: \
         socket 6 to [::ffff:198.51.100.10]:80 1 :: \
         tcp-start [2001:db8::10]:80 socket 6 to [2001:db8::10]:80 1 :: \
         socket 6 connect [2001:db8::10]:80 send 1 ::",
    );
    for flow in log
        .to("198.51.100.10", Some(80))
        .chain(log.to("2001:db8::10", Some(80)))
    {
        assert!(flow.get("translated").is_some(), "{flow}");
    }
    assert_eq!(left(&log, "198.51.100.10", 80), some("203.0.113.20 8080"));
    assert_eq!(left(&log, "2001:db8::10", 80), some("2001:db8::20 8080"));
    assert_eq!(left(&log, "198.51.100.10", 81), [None]);
    assert_eq!(left(&log, "198.51.100.10", 53), [None]);
    let expected = [
        row("198.51.100.10", 53, "sendmsg", 1),
        row("198.51.100.10", 80, "connect", 1),
        row("198.51.100.10", 80, "sendmsg", 4),
        row("198.51.100.10", 80, "udp-connect", 1),
        row("198.51.100.10", 81, "connect", 1),
        row("2001:db8::10", 80, "connect", 1),
        row("2001:db8::10", 80, "sendmsg", 1),
        row("2001:db8::10", 80, "udp-connect", 1),
    ];
    assert_eq!(tally(&log), expected);
}

#[test]
fn every_place_of_a_spread_destination_is_told() {
    needs_root!();
    let world = World::new();
    load(
        &world,
        "table ip lab_nat {
            chain output {
                type nat hook output priority -100
                ip daddr 198.51.100.10 tcp dport 80 dnat to numgen inc mod 3 map \
                    { 0 : 203.0.113.1, 1 : 203.0.113.2, 2 : 198.51.100.10 }
            }
        }",
    );
    let log = world.record("repeat 9 tcp-start 198.51.100.10:80 ::");
    let expected = [
        None,
        Some("203.0.113.1 80".to_owned()),
        Some("203.0.113.2 80".to_owned()),
    ];
    assert_eq!(left(&log, "198.51.100.10", 80), expected);
    assert_eq!(log.count("198.51.100.10", 80), 9);
}

#[test]
fn a_sidecars_own_connections_are_not_redirected() {
    needs_root!();
    let world = World::new();
    load(
        &world,
        "table ip mesh {
            chain output {
                type nat hook output priority -100
                meta skuid 1337 return
                ip daddr 198.51.100.0/24 tcp dport 443 redirect to :15001
            }
        }",
    );
    let agent = agent();
    let steps = format!(
        "tcp-start 198.51.100.7:443 \
         exec setpriv --reuid 1337 --clear-groups {agent} tcp-start 198.51.100.7:443 ::"
    );
    let log = world.record(&steps);
    let by_user = |uid: u64| {
        let of_user = log.0.iter().filter(|record| record["uid"] == uid);
        left(&Log(of_user.cloned().collect()), "198.51.100.7", 443)
    };
    assert_eq!(by_user(0), some("127.0.0.1 15001"));
    assert_eq!(by_user(1337), [None]);
}

/// Rewrites to a server elsewhere, and to a sidecar that the namespace holds itself.
const MESH: &str = "table ip mesh {
    chain output {
        type nat hook output priority -100
        ip daddr 198.51.100.10 meta l4proto { tcp, udp } th dport 80 dnat to 203.0.113.20:8080
        ip daddr 198.51.100.11 tcp dport 443 redirect to :15001
    }
}
";

/// What the workload does; each is answered.
const WORK: [&str; 5] = [
    "tcp 198.51.100.10:80",
    "udp 198.51.100.10:80",
    "udp-connected 198.51.100.10:80",
    "tcp 198.51.100.11:443",
    "tcp 198.51.100.30:443",
];

/// Answered as well as long as no rules forbid it: where the rewritten would have gone, and
/// another place altogether.
const NOT_SEEN: [&str; 3] = [
    "tcp-abandon 198.51.100.12:443 2000",
    "tcp-abandon 198.51.100.40:443 2000",
    "udp 203.0.113.20:8081",
];

fn plan() -> Plan {
    Plan::new()
        .server(Kind::TcpEcho, "203.0.113.20:8080")
        .server(Kind::UdpEcho, "203.0.113.20:8080")
        .server(Kind::UdpEcho, "203.0.113.20:8081")
        .server(Kind::TcpEcho, "198.51.100.12:443")
        .server(Kind::TcpEcho, "198.51.100.30:443")
        .server(Kind::TcpEcho, "198.51.100.40:443")
}

/// Whether the agent gets an answer.
fn passes(net: &Namespace, step: &str) -> bool {
    let mut command = net.command(agent());
    let told = lab::output(command.args(step.split(' '))).unwrap();
    told.contains(": ok ")
}

/// An echo server in `net`, at the sidecar's port.
fn sidecar(net: &Namespace) -> Process {
    let echo = "import socketserver as s
class Echo(s.BaseRequestHandler):
    def handle(self): self.request.sendall(self.request.recv(4096))
server = s.ThreadingTCPServer(('127.0.0.1', 15001), Echo)
print('ready', flush=True)
server.serve_forever()";
    let mut command = net.command("python3");
    let mut process = Process::spawn(command.args(["-c", echo]).stdout(Stdio::piped())).unwrap();
    assert_eq!(first_line(&mut process), "ready");
    process
}

#[test]
fn rules_let_what_was_rewritten_pass_and_nothing_else() {
    needs_root!();
    let internet = Internet::start(&plan()).unwrap();
    let net = internet.client("mesh").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("mesh.nft"), MESH).unwrap();
    load_file(&net, Path::new(&path("mesh.nft")));
    let _sidecar = sidecar(&net);

    let steps = WORK.join(" ");
    let mut run = net.command(egress_tracer().unwrap());
    run.args(["run", "-o", &path("out"), "--", &agent()])
        .args(steps.split(' '));
    let ran = finish(&mut run);
    assert_eq!(ran.out.matches(": ok ").count(), WORK.len(), "{ran:?}");
    let policy = std::fs::read_to_string(path("out/policy.toml")).unwrap();
    for line in [
        r#"translated = ["80/tcp to 203.0.113.20:8080", "80/udp to 203.0.113.20:8080"]"#,
        r#"translated = ["443/tcp to 127.0.0.1:15001"]"#,
    ] {
        assert!(policy.contains(line), "{policy}");
    }

    for step in NOT_SEEN {
        assert!(passes(&net, step), "{step}: nothing is in force yet");
    }
    let mut generate = Command::new(egress_tracer().unwrap());
    generate
        .args([
            "generate",
            &path("out"),
            "--format",
            "nftables",
            "--verdict",
            "drop",
            "-o",
        ])
        .arg(path("drop.nft"));
    assert_eq!(finish(&mut generate).code, Some(0));
    load_file(&net, Path::new(&path("drop.nft")));
    for step in WORK {
        assert!(passes(&net, step), "{step}: {}", rules(&path("drop.nft")));
    }
    for step in NOT_SEEN {
        assert!(!passes(&net, step), "{step}: {}", rules(&path("drop.nft")));
    }
}

fn rules(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}
