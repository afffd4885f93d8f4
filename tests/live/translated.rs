//! Destinations that something rewrites: what the program asked for, and what left.

use lab::Log;

use crate::world::{World, needs_root, row, tally};

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
    lab::output(world.net().command("nft").arg("-f").arg(&path)).unwrap();
}

/// What left in place of `ip` and `port`, each once; `None`: what was asked for.
fn left(log: &Log, ip: &str, port: u16) -> Vec<Option<String>> {
    let mut all: Vec<_> = log
        .to(ip, Some(port))
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
    let agent = crate::world::agent();
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
