//! Rules, and what was observed, by hand.

use super::*;
use crate::{
    policy::seen::{Figures, Who},
    record::Channel,
    render::{Origin, Rule},
};

fn rules(pairs: &[(&str, &str)]) -> RuleSet {
    let rule =
        |(to, service): &(&str, &str)| Rule::new(to.parse().unwrap(), service.parse().unwrap(), "");
    RuleSet::new("w", Origin::Reviewed, pairs.iter().map(rule).collect())
}

fn seen(pairs: &[(&str, &str)]) -> Observations {
    let as_asked = pairs.iter().map(|(ip, service)| (*ip, *service, None));
    seen_leaving(&as_asked.collect::<Vec<_>>())
}

fn seen_leaving(flows: &[(&str, &str, Option<Left>)]) -> Observations {
    let mut observations = Observations::new("w", 100);
    for (ip, service, left) in flows {
        let destination = Destination {
            ip: ip.parse().unwrap(),
            service: service.parse().unwrap(),
        };
        let figures = Figures {
            count: 1,
            outcomes: None,
            bytes_sent: 0,
            bytes_received: 0,
            first_seen: None,
            last_seen: None,
            process: Some("curl"),
            who: Who::default(),
            names: &[],
            role: None,
            peer: None,
            via_engine: false,
            writable_path: false,
            channel: Channel::Connect,
            answered: None,
            left: *left,
            tool: None,
        };
        observations.see("run", destination, &figures);
    }
    observations
}

#[test]
fn what_is_observed_is_held_against_the_rules() {
    let rules = rules(&[
        ("198.51.100.0/24", "443/tcp"),
        ("203.0.113.1/32", "443/tcp"),
        ("203.0.113.2/32", "icmp/echo-request"),
    ]);
    let replay = replay(
        &rules,
        &[],
        &seen(&[
            ("198.51.100.7", "443/tcp"),
            ("198.51.100.7", "80/tcp"),
            ("203.0.113.2", "icmp"),
            ("::ffff:198.51.100.9", "443/tcp"),
        ]),
    );
    assert_eq!((replay.destinations, replay.allowed), (4, 2));
    assert_eq!(replay.denied.len(), 1);
    assert_eq!(replay.denied[0].service, "80/tcp");
    assert_eq!(replay.uncertain[0].to.to_string(), "203.0.113.2");
    assert_eq!(replay.unused[0].to.to_string(), "203.0.113.1/32");
    let [wide] = &replay.also_open[..] else {
        panic!("{:?}", replay.also_open);
    };
    assert_eq!((wide.observed, wide.opened.as_str()), (2, "256"));
}

#[test]
fn what_left_is_held_against_the_rules() {
    let to = |ip: &str| {
        Some(Left::To {
            ip: ip.parse().unwrap(),
            port: Some(8443),
        })
    };
    let rules = rules(&[("10.0.0.9/32", "8443/tcp"), ("198.51.100.9/32", "443/tcp")]);
    let observed = seen_leaving(&[
        ("198.51.100.7", "443/tcp", to("10.0.0.9")),
        ("198.51.100.8", "443/tcp", to("127.0.0.1")),
        ("198.51.100.9", "443/tcp", Some(Left::AsAsked)),
        ("198.51.100.9", "443/tcp", to("10.0.0.8")),
    ]);
    let replay = replay(&rules, &[], &observed);
    assert_eq!((replay.destinations, replay.allowed), (3, 2));
    assert_eq!(replay.denied[0].to.to_string(), "198.51.100.9");
    assert_eq!(
        replay.denied[0].translated,
        ["as asked", "to 10.0.0.8:8443"]
    );
    assert_eq!(replay.unused, []);
}

#[test]
fn what_no_rule_is_needed_for_passes() {
    let evaluator = Evaluator::new(&rules(&[]));
    let judge = |to: &str, kind, code, hop_limit| {
        let content = Content::Icmp {
            kind,
            code,
            hop_limit,
        };
        evaluator.judge(&Packet {
            to: to.parse().unwrap(),
            content,
        })
    };
    assert_eq!(judge("198.51.100.1", 3, 4, 64), Decision::Always);
    assert_eq!(judge("198.51.100.1", 3, 1, 64), Decision::NotAllowed);
    assert_eq!(judge("2001:db8::1", 135, 0, 255), Decision::Always);
    assert_eq!(judge("2001:db8::1", 135, 0, 64), Decision::NotAllowed);
    assert_eq!(judge("ff02::16", 143, 0, 1), Decision::Always);
    assert_eq!(judge("2001:db8::1", 143, 0, 1), Decision::NotAllowed);
}
