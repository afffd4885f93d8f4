//! The figures of one policy entry: everything that evidence says about what the entry covers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;

use crate::{
    policy::{
        evidence::{Destination, Evidence},
        labels::labels,
        model::{Entry, Target},
    },
    record::{Channel, Confidence, Name, Outcome},
};

/// What was seen of an entry's destinations and services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The distinct addresses, sorted.
    pub addresses: BTreeSet<IpAddr>,
    /// Runs in which the most frequent of its destinations was seen: of its addresses, or its
    /// names.
    pub runs: u64,
    /// Runs recorded of the workload.
    pub runs_recorded: u64,
    pub connections: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Whether any attempt was answered, where that is known of all.
    pub answered: Option<bool>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// File names of executables.
    pub processes: BTreeSet<String>,
    pub more_processes: bool,
    /// Some command lines and containers, for people.
    pub commands: BTreeSet<String>,
    pub containers: BTreeSet<String>,
    pub writable_path: bool,
    pub channels: BTreeSet<Channel>,
    /// What its destinations are there for, or whose they are.
    pub roles: BTreeSet<String>,
    /// Whether a destination may be missing from the evidence.
    pub incomplete: bool,
    pub naming: Naming,
    /// All tools that went there, those for which the entry is not among them.
    pub tools: BTreeSet<String>,
    /// Something went there outside of any tool, or of none that is known, where others are.
    pub outside_tools: bool,
}

/// What the names of its connections are noteworthy for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// A connection gave a name that no answer stands for, and no other name is believed.
    pub is_claimed: bool,
    /// A connection gave another name than the answers did.
    pub is_mismatch: bool,
    /// One of its addresses has other names as well.
    pub is_shared: bool,
    /// A connection offered DNS over TLS or QUIC.
    pub is_encrypted_dns: bool,
}

impl Naming {
    fn of(seen: &Destination) -> Self {
        let has = |wanted: Confidence| {
            let mut names = seen.names.iter();
            names.any(|name: &Name| name.confidence == Some(wanted))
        };
        // What is asked of a proxy is asked for elsewhere.
        let claims = seen.names.iter().any(Name::is_bare_claim);
        let answered = [Confidence::Proven, Confidence::Resolved, Confidence::Shared];
        Self {
            is_claimed: claims && seen.believed.is_empty(),
            is_mismatch: claims && answered.into_iter().any(has),
            is_shared: has(Confidence::Shared) || seen.believed.len() > 1,
            is_encrypted_dns: seen.names.iter().any(Name::is_encrypted_dns),
        }
    }

    fn add(&mut self, other: Self) {
        self.is_claimed |= other.is_claimed;
        self.is_mismatch |= other.is_mismatch;
        self.is_shared |= other.is_shared;
        self.is_encrypted_dns |= other.is_encrypted_dns;
    }
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
        let networks = entry.to.networks();
        let seen: Vec<&Destination> = match entry.to.is_name() {
            false => networks
                .iter()
                .flat_map(|each| self.by_address.range(each.network()..=each.broadcast()))
                .flat_map(|(_, destinations)| destinations)
                .copied()
                .collect(),
            true => {
                let all = self.evidence.destinations.iter();
                all.filter(|seen| seen.is_under(&entry.to)).collect()
            }
        };
        let is_port =
            |seen: &&Destination| entry.ports.iter().any(|port| port.covers(&seen.service));
        let seen: Vec<&Destination> = seen.into_iter().filter(is_port).collect();
        let tools: BTreeSet<String> = seen
            .iter()
            .flat_map(|seen| seen.suspects().cloned())
            .collect();
        let outside_tools = seen.iter().any(|seen| seen.tools().is_none());
        // Where the log does not say for which tool it was, it may have been for one of these.
        let is_for = |seen: &&Destination| seen.may_be_for(entry.tools.as_deref());
        let seen: Vec<&Destination> = seen.into_iter().filter(is_for).collect();
        if seen.is_empty() {
            return None;
        }
        let mut summary = Summary {
            runs: self.runs_of_names(entry),
            runs_recorded: self.evidence.runs,
            incomplete: !self.evidence.complete,
            tools,
            outside_tools: outside_tools && self.knows_tools(),
            answered: answered(&seen),
            ..Summary::default()
        };
        seen.into_iter()
            .for_each(|destination| summary.add(destination));
        Some(summary)
    }

    /// Whether the log says of anything for which tool it was.
    fn knows_tools(&self) -> bool {
        let mut all = self.evidence.destinations.iter();
        all.any(|seen| seen.tools().is_some())
    }

    /// In how many runs the most frequent of an entry's names was seen; 0 for addresses.
    fn runs_of_names(&self, entry: &Entry) -> u64 {
        let is_port = |service| entry.ports.iter().any(|port| port.covers(service));
        let names = self.evidence.names.iter();
        let its = names.filter(|named| {
            entry.to.covers(&Target::Name(named.to.clone())) && is_port(&named.service)
        });
        its.map(|named| named.runs).max().unwrap_or(0)
    }
}

/// One answer will do; for none, all have to be known.
fn answered(seen: &[&Destination]) -> Option<bool> {
    let known: Vec<_> = seen.iter().map(|seen| seen.was_answered()).collect();
    let is_silent = known.iter().all(|answered| *answered == Some(false));
    match known.contains(&Some(true)) {
        true => Some(true),
        false => is_silent.then_some(false),
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
        self.commands.extend(seen.commands.iter().cloned());
        self.containers.extend(seen.containers.iter().cloned());
        self.writable_path |= seen.writable_path;
        self.channels.extend(&seen.channels);
        let peers = seen.peers.iter().map(String::as_str);
        self.roles.extend(labels(seen.role, peers));
        self.naming.add(Naming::of(seen));
    }
}
