//! What the comments of rules say, and how much was seen of each: from the evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    policy::{
        evidence::{Destination, Evidence},
        model::Service,
    },
    record::{Confidence, Name},
};

/// How many names, and how many processes, a comment spells out.
const SPELLED_OUT: usize = 3;

/// What rules are for, by destination.
pub(super) struct Comments<'e> {
    by_address: BTreeMap<IpAddr, Vec<&'e Destination>>,
}

impl<'e> Comments<'e> {
    pub(super) fn new(evidence: &'e Evidence) -> Self {
        let mut by_address: BTreeMap<IpAddr, Vec<&Destination>> = BTreeMap::new();
        for destination in &evidence.destinations {
            by_address
                .entry(destination.to)
                .or_default()
                .push(destination);
        }
        Self { by_address }
    }

    fn seen(&self, network: &IpNet, service: &Service) -> impl Iterator<Item = &'e Destination> {
        self.by_address
            .range(network.network()..=network.broadcast())
            .flat_map(|(_, destinations)| destinations)
            .filter(|destination| service.covers(&destination.service))
            .copied()
    }

    /// How many addresses were seen there.
    pub(super) fn observed(&self, network: &IpNet, service: &Service) -> u64 {
        let addresses: BTreeSet<IpAddr> = self.seen(network, service).map(|seen| seen.to).collect();
        addresses.len() as u64
    }

    /// The names that an answer to a question of the workload gave it, the processes seen there, and
    /// whether the engine's resolver asked for them. No figures: the comment stays the same as long
    /// as the destinations do.
    pub(super) fn of(&self, network: &IpNet, service: &Service) -> String {
        let seen: Vec<&Destination> = self.seen(network, service).collect();
        let names = seen.iter().flat_map(|destination| &destination.names);
        let names = names.filter(|name| is_answered(name));
        let more = seen.iter().any(|destination| destination.more_names);
        let mut parts = first_few(&names.map(|name| name.name.as_str()).collect(), more);
        let processes = seen.iter().flat_map(|destination| &destination.processes);
        let more = seen.iter().any(|destination| destination.more_processes);
        parts.extend(first_few(&processes.map(String::as_str).collect(), more));
        if seen.iter().any(|destination| destination.via_engine) {
            parts.push("via engine".to_owned());
        }
        parts.join(", ")
    }
}

/// Whether more than the connection's own word stands for a name.
fn is_answered(name: &Name) -> bool {
    match name.confidence {
        Some(Confidence::Proven | Confidence::Resolved | Confidence::Shared) => true,
        Some(Confidence::Claimed) | None => false,
    }
}

/// The first few, and how many more there are.
fn first_few(texts: &BTreeSet<&str>, more: bool) -> Vec<String> {
    let shown = texts.iter().take(SPELLED_OUT);
    let mut parts: Vec<String> = shown.map(|text| (*text).to_owned()).collect();
    match texts.len().saturating_sub(SPELLED_OUT) {
        0 => {}
        rest if more => parts.push(format!("+{rest} or more")),
        rest => parts.push(format!("+{rest}")),
    }
    parts
}
