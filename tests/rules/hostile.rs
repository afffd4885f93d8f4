//! Whatever a workload calls itself, and whatever it talked to, the output loads.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*, sample::select};
use tracer_userspace::{
    policy::model::Service,
    record::Protocol,
    render::{Format, NamedRule, Origin, Rule, RuleSet, Scope, Verdict},
};

use crate::{
    netns::{Netns, ready},
    render,
};

const CASES: u32 = 48;

fn network() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(ip, bits)| (IpAddr::from(ip), bits)),
        (any::<[u8; 16]>(), 0_u8..=128).prop_map(|(ip, bits)| (IpAddr::from(ip), bits)),
        // Close together, so that networks overlap and rules repeat.
        (0_u8..4, 22_u8..=32).prop_map(|(low, bits)| (IpAddr::from([198, 51, 100, low]), bits)),
    ]
    .prop_map(|(ip, bits)| IpNet::new(ip, bits).unwrap())
}

fn service() -> impl Strategy<Value = Service> {
    let with_ports = select(vec![6_u8, 17, 33, 132, 136]).prop_map(Protocol);
    prop_oneof![
        (with_ports, any::<u16>()).prop_map(|(protocol, port)| Service::Port { protocol, port }),
        any::<u8>().prop_map(|number| Service::Protocol {
            protocol: Protocol(number),
            kind: None
        }),
        (select(vec![1_u8, 58]), "echo-request|nd-redirect|\\PC{0,8}").prop_map(
            |(number, kind)| {
                Service::Protocol {
                    protocol: Protocol(number),
                    kind: Some(kind),
                }
            }
        ),
    ]
}

fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        vec(any::<char>(), 0..300).prop_map(String::from_iter),
        "[\"'\\\\\n\r\t;{}#$*@`(),. a-z]{0,200}",
        Just("\"; flush ruleset; \"".to_owned()),
        Just("\"\nCOMMIT\n*nat\n-F\nCOMMIT\n".to_owned()),
        Just("ends with a backslash \\".to_owned()),
    ]
}

pub(crate) fn rule_set() -> impl Strategy<Value = RuleSet> {
    let rule = (network(), service(), hostile_text())
        .prop_map(|(to, service, comment)| Rule::new(to, service, comment));
    let name = prop_oneof![
        "([*][.])?([a-z0-9_-]{1,9}[.]){0,3}example",
        "([*][.])?([ab][.]){0,3}example",
        hostile_text(),
    ];
    let named = (name, service(), hostile_text()).prop_map(|(name, service, comment)| NamedRule {
        name,
        service,
        comment,
        expires: None,
    });
    let texts = (hostile_text(), vec(hostile_text(), 0..3));
    (vec(rule, 0..12), vec(named, 0..8), texts).prop_map(
        |(mut rules, mut names, (workload, warnings))| {
            rules.sort();
            names.sort();
            RuleSet {
                names,
                left_out: warnings.clone(),
                warnings,
                ..RuleSet::new(workload, Origin::Candidate, rules)
            }
        },
    )
}

/// Few enough cases to start a tool for each.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..Default::default()
    }
}

/// Loads every format of every case, and looks for what the text tried to do.
fn always_loads(name: &str, formats: &[(Format, &str)]) {
    if !ready(name) {
        return;
    }
    let netns = Netns::new();
    let untouched = "table inet untouched {\n}\n";
    netns.must("nft add table inet untouched");
    proptest!(config(), |(rules in rule_set())| {
        for (format, load) in formats {
            let made = render(*format, &rules, Verdict::Reject, Scope::Namespace);
            let said = netns.shell_with(load, &made.text);
            prop_assert!(said.ok, "{}\n{}", said.err, made.text);
            prop_assert_eq!(said.err, "");
            prop_assert_eq!(&render(*format, &rules, Verdict::Reject, Scope::Namespace), &made);
        }
        prop_assert!(netns.must("nft list table inet untouched").contains(untouched));
    });
}

#[test]
fn nft_always_loads() {
    always_loads("nft_always_loads", &[(Format::Nftables, "nft -c -f -")]);
}

#[test]
fn iptables_always_loads() {
    always_loads(
        "iptables_always_loads",
        &[
            (Format::Iptables, "iptables-restore --noflush --test"),
            (Format::Ip6tables, "ip6tables-restore --noflush --test"),
        ],
    );
}
