//! What the kernel has loaded of our rules, listed by the real nft, reads back as the same policy.

use std::collections::BTreeSet;

use tracer_userspace::{
    foreign,
    policy::model::{Service, Status},
    render::{Format, Scope, Verdict},
};

use crate::{
    load::{every_shape, follow},
    netns::{Netns, ready},
    render,
};

#[test]
fn nft_lists_what_was_rendered() {
    if !ready("nft_lists_what_was_rendered") {
        return;
    }
    let netns = Netns::new();
    let asked = every_shape();
    let made = render(Format::Nftables, &asked, Verdict::Drop, Scope::Namespace);
    follow(&netns, Format::Nftables, &made.text, "Apply", false);
    let listed = netns.must("nft -j list ruleset");
    let list = foreign::read(&listed, "w").unwrap();
    assert_eq!(list.form, "nft -j list ruleset");
    let open: BTreeSet<(ipnet::IpNet, Service)> = list
        .policy
        .entries
        .iter()
        .filter(|entry| entry.status == Status::Approved)
        .flat_map(|entry| {
            let to = entry.to.networks()[0];
            entry.ports.iter().map(move |port| (to, port.clone()))
        })
        .collect();
    let is_within = |(to, service): &(ipnet::IpNet, Service), all: &BTreeSet<_>| {
        all.iter().any(|(wide, known): &(ipnet::IpNet, Service)| {
            wide.contains(to) && known.covers(service)
        })
    };
    let wanted: BTreeSet<_> = asked
        .rules
        .iter()
        .map(|rule| (rule.to, rule.service.clone()))
        .collect();
    for each in &wanted {
        assert!(is_within(each, &open), "{each:?} is lost; {:?}", list.notes);
    }
    for each in open.iter().filter(|(_, service)| !is_fixed(service)) {
        assert!(is_within(each, &wanted), "{each:?} is new");
    }
}

/// What our rules let pass whatever they are about: neighbour discovery, path MTU.
fn is_fixed(service: &Service) -> bool {
    match service {
        Service::Protocol {
            kind: Some(kind), ..
        } => !kind.starts_with("echo"),
        Service::Protocol { kind: None, .. } | Service::Port { .. } => false,
    }
}
