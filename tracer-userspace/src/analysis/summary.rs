//! The figures of one policy entry: everything that evidence says about what the entry covers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;

use crate::{
    policy::{
        evidence::{Destination, Evidence},
        model::Entry,
    },
    record::{Channel, Outcome},
};

/// What was seen of an entry's destinations and services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The distinct addresses, sorted.
    pub addresses: BTreeSet<IpAddr>,
    /// Runs in which the most frequent of its destinations was seen.
    pub runs: u64,
    /// Runs recorded of the workload.
    pub runs_recorded: u64,
    pub connections: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// File names of executables.
    pub processes: BTreeSet<String>,
    pub more_processes: bool,
    pub writable_path: bool,
    pub channels: BTreeSet<Channel>,
    /// Whether a destination may be missing from the evidence.
    pub incomplete: bool,
}

/// Evidence by address, to be asked about many entries.
#[derive(Debug)]
pub struct Summaries<'e> {
    evidence: &'e Evidence,
    by_address: BTreeMap<IpAddr, Vec<&'e Destination>>,
}

impl<'e> Summaries<'e> {
    #[must_use]
    pub fn new(evidence: &'e Evidence) -> Self {
        let mut by_address: BTreeMap<IpAddr, Vec<&Destination>> = BTreeMap::new();
        for destination in &evidence.destinations {
            let known = by_address.entry(destination.to).or_default();
            known.push(destination);
        }
        Self {
            evidence,
            by_address,
        }
    }

    /// What was seen of `entry`; `None` if nothing was.
    #[must_use]
    pub fn of(&self, entry: &Entry) -> Option<Summary> {
        let network = entry.to.network()?;
        let mut seen = self
            .by_address
            .range(network.network()..=network.broadcast())
            .flat_map(|(_, destinations)| destinations)
            .filter(|seen| entry.ports.iter().any(|port| port.covers(&seen.service)))
            .peekable();
        seen.peek()?;
        let mut summary = Summary {
            runs_recorded: self.evidence.runs,
            incomplete: !self.evidence.complete,
            ..Summary::default()
        };
        seen.for_each(|destination| summary.add(destination));
        Some(summary)
    }
}

impl Summary {
    fn add(&mut self, seen: &Destination) {
        self.addresses.insert(seen.to);
        self.runs = self.runs.max(seen.runs);
        self.connections = self.connections.saturating_add(seen.connections);
        for (&outcome, &count) in &seen.outcomes {
            let sum = self.outcomes.entry(outcome).or_default();
            *sum = sum.saturating_add(count);
        }
        self.bytes_sent = self.bytes_sent.saturating_add(seen.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(seen.bytes_received);
        self.first_seen = match (self.first_seen, seen.first_seen) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.last_seen = self.last_seen.max(seen.last_seen);
        self.processes.extend(seen.processes.iter().cloned());
        self.more_processes |= seen.more_processes;
        self.writable_path |= seen.writable_path;
        self.channels.extend(&seen.channels);
    }
}
