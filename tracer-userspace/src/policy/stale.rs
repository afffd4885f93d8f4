//! Entries that nothing was observed of: candidates that have vanished, and approvals that nobody
//! seems to need.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::policy::{
    evidence::{Destination, Evidence, Vanished},
    infer::By,
    model::{Entry, Policy, Service, Status, Target},
};

/// An entry without a single observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Of the entry, from 0.
    pub index: usize,
    pub status: Status,
    /// `None` if no evidence at hand tells of it.
    pub last_seen: Option<Timestamp>,
}

/// Entries of which `evidence` shows nothing. Denials are meant to stay unseen, and entries for
/// tools cannot be told from evidence: they are not listed. A candidate for an address whose flows
/// are all proposed by name now (`by`) is not seen any more: they are listed twice otherwise.
#[must_use]
pub fn stale(policy: &Policy, evidence: &Evidence, by: By) -> Vec<Stale> {
    let seen = Seen::new(evidence, by);
    policy
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.status != Status::Denied && entry.tools.is_none())
        .filter(|(_, entry)| !seen.is_seen(entry))
        .map(|(index, entry)| Stale {
            index,
            status: entry.status,
            last_seen: last_seen(entry, &evidence.vanished),
        })
        .collect()
}

/// What `earlier` tells of destinations that are in `policy` and not in `now`.
#[must_use]
pub fn vanished(policy: &Policy, earlier: &Evidence, now: &Evidence) -> Vec<Vanished> {
    let mut last: BTreeMap<_, Option<Timestamp>> = BTreeMap::new();
    let then = earlier
        .destinations
        .iter()
        .map(|seen| (seen.to, &seen.service, seen.last_seen));
    let before = earlier
        .vanished
        .iter()
        .map(|seen| (seen.to, &seen.service, seen.last_seen));
    for (to, service, time) in then.chain(before) {
        let known = last.entry((to, service.clone())).or_default();
        *known = (*known).max(time);
    }
    for seen in &now.destinations {
        last.remove(&(seen.to, seen.service.clone()));
    }
    let is_listed = |to: IpAddr, service: &_| {
        policy.entries.iter().any(|entry| {
            entry.to.contains(&IpNet::from(to))
                && entry.ports.iter().any(|port| port.covers(service))
        })
    };
    last.into_iter()
        .filter(|((to, service), _)| is_listed(*to, service))
        .map(|((to, service), last_seen)| Vanished {
            to,
            service,
            last_seen,
        })
        .collect()
}

fn last_seen(entry: &Entry, vanished: &[Vanished]) -> Option<Timestamp> {
    vanished
        .iter()
        .filter(|seen| entry.to.contains(&IpNet::from(seen.to)))
        .filter(|seen| entry.ports.iter().any(|port| port.covers(&seen.service)))
        .filter_map(|seen| seen.last_seen)
        .max()
}

/// Observed destinations, by address.
struct Seen<'e> {
    evidence: &'e Evidence,
    by_address: BTreeMap<IpAddr, Vec<&'e Destination>>,
    by: By,
}

impl<'e> Seen<'e> {
    fn new(evidence: &'e Evidence, by: By) -> Self {
        let mut by_address: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for seen in &evidence.destinations {
            by_address.entry(seen.to).or_default().push(seen);
        }
        Self {
            evidence,
            by_address,
            by,
        }
    }

    fn is_seen(&self, entry: &Entry) -> bool {
        let is_port = |service: &Service| entry.ports.iter().any(|port| port.covers(service));
        if entry.to.is_name() {
            return self.is_named(entry, is_port);
        }
        let is_open_address =
            matches!(entry.to, Target::Address(_)) && entry.status == Status::Candidate;
        let goes_by_name = |seen: &Destination| {
            is_open_address && self.by == By::Name && !seen.believed.is_empty()
        };
        let networks = entry.to.networks();
        networks
            .iter()
            .flat_map(|each| self.by_address.range(each.network()..=each.broadcast()))
            .flat_map(|(_, destinations)| destinations)
            .any(|seen| is_port(&seen.service) && !goes_by_name(seen))
    }

    fn is_named(&self, entry: &Entry, is_port: impl Fn(&Service) -> bool) -> bool {
        let goes_by_address = entry.status == Status::Candidate && self.by == By::Address;
        let mut destinations = self.evidence.destinations.iter();
        !goes_by_address
            && destinations.any(|seen| is_port(&seen.service) && seen.is_under(&entry.to))
    }
}
