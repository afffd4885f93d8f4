//! A policy together with the reviewed bases that it includes.

use crate::policy::model::{Entry, Policy, Status};

/// How deep bases may include bases.
pub const MAX_DEPTH: usize = 16;

/// `own` with the entries of its bases after its own. Denials of either win when rules are made:
/// what a tenant denies, no base can allow.
#[must_use]
pub fn joined(own: &Policy, bases: &[Policy]) -> Policy {
    let mut entries = own.entries.clone();
    entries.extend(bases.iter().flat_map(|base| base.entries.clone()));
    Policy {
        workload: own.workload.clone(),
        include: own.include.clone(),
        entries,
    }
}

/// Those of `found` that the decisions of a base do not cover already: a base's candidates say
/// nothing.
#[must_use]
pub fn without_decided(found: Vec<Entry>, base: &[Entry]) -> Vec<Entry> {
    if base.is_empty() {
        return found;
    }
    let decided: Vec<&Entry> = base
        .iter()
        .filter(|entry| entry.status != Status::Candidate && entry.tools.is_none())
        .collect();
    found
        .into_iter()
        .filter_map(|entry| {
            let around: Vec<&&Entry> = decided
                .iter()
                .filter(|known| known.to.covers(&entry.to))
                .collect();
            let is_news = |service: &&_| {
                !around
                    .iter()
                    .any(|known| known.ports.iter().any(|port| port.covers(service)))
            };
            let news: Vec<_> = entry.ports.iter().filter(is_news).cloned().collect();
            (!news.is_empty()).then(|| Entry::candidate(entry.to, news))
        })
        .collect()
}
