//! What the page tells of each destination.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    analysis::{
        risk::{self, Finding, Severity, Subject, own::Own},
        summary::Summaries,
    },
    place::place,
    policy::{
        Observations,
        evidence::{Destination, Evidence},
        infer,
        model::{Entry, Target},
    },
    ranges::Ranges,
    record::{Confidence, Name, Place},
};

/// One workload's destinations, those with the worst findings and the most connections first.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) rows: Vec<Row>,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

/// One destination and service.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seen: Destination,
    /// The name that it is known by, else the address.
    pub(super) label: String,
    /// The published range, the kind of place, or the network around it.
    pub(super) network: String,
    /// Worst first.
    pub(super) findings: Vec<Finding>,
}

impl Facts {
    pub(super) fn of(observations: &Observations, ranges: &Ranges, own: &Own) -> Self {
        let evidence = infer::evidence(observations);
        let summaries = Summaries::new(&evidence);
        let row = |seen: &Destination| Row {
            label: label(seen),
            network: network(seen.to, ranges),
            findings: findings(seen, &summaries, ranges, own),
            seen: seen.clone(),
        };
        let mut rows: Vec<Row> = evidence.destinations.iter().map(row).collect();
        // Stable: what is alike stays sorted by address.
        rows.sort_by_key(|row| std::cmp::Reverse((row.severity(), row.seen.connections)));
        Self {
            first: times(&evidence, |seen| seen.first_seen).min(),
            last: times(&evidence, |seen| seen.last_seen).max(),
            rows,
        }
    }

    pub(super) fn connections(&self) -> u64 {
        let each = self.rows.iter().map(|row| row.seen.connections);
        each.fold(0, u64::saturating_add)
    }
}

impl Row {
    /// Of the worst finding.
    pub(super) fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|rule| rule.severity).max()
    }

    /// Whether it is worth a sign of its own in pictures.
    pub(super) fn is_bad(&self) -> bool {
        self.severity() >= Some(Severity::High)
    }
}

fn times(
    evidence: &Evidence,
    of: impl Fn(&Destination) -> Option<Timestamp>,
) -> impl Iterator<Item = Timestamp> {
    evidence.destinations.iter().filter_map(of)
}

fn findings(
    seen: &Destination,
    summaries: &Summaries<'_>,
    ranges: &Ranges,
    own: &Own,
) -> Vec<Finding> {
    let entry = Entry::candidate(Target::Address(seen.to), vec![seen.service.clone()]);
    let summary = summaries.of(&entry);
    risk::findings(&Subject {
        seen: summary.as_ref(),
        own,
        ranges: Some(ranges),
        ..Subject::of(&entry)
    })
}

/// A name that the workload alone claims, or that is one of several, does not tell where it went.
fn label(seen: &Destination) -> String {
    let is_certain = |name: &&Name| match name.confidence {
        Some(Confidence::Proven | Confidence::Resolved) => true,
        Some(Confidence::Claimed | Confidence::Shared) | None => false,
    };
    let best = seen.names.iter().filter(is_certain);
    best.min_by_key(|name| (name.confidence, &name.name))
        .map_or_else(|| seen.to.to_string(), |name| name.name.clone())
}

fn network(address: IpAddr, ranges: &Ranges) -> String {
    if let Some(tag) = ranges.of(address).first() {
        return tag.to_string();
    }
    if let Some(place) = place(address) {
        return word(place).to_owned();
    }
    let bits = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, bits).map_or_else(
        |_| address.to_string(),
        |network| network.trunc().to_string(),
    )
}

fn word(place: Place) -> &'static str {
    match place {
        Place::Loopback => "loopback",
        Place::Unspecified => "unspecified",
        Place::LinkLocal => "link-local",
        Place::Metadata => "cloud metadata",
        Place::Private => "private network",
        Place::Shared => "carrier-grade NAT",
        Place::Multicast => "multicast",
        Place::Broadcast => "broadcast",
        Place::Documentation => "documentation",
    }
}
