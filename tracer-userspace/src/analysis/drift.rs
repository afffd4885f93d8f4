//! Drift: where what was observed and what was reviewed part ways.

mod changes;
mod kind;
mod known;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

pub use changes::changes;
pub use kind::{Drift, Kind, Level};

use crate::policy::{
    decision::days_after,
    evidence::{Destination, Evidence},
    model::Policy,
};
use known::{Difference, Known};

/// Every difference between `policy` (with its bases) and what was observed, worst first.
/// Approvals that end within `soon` days of `today` (UTC) are told.
#[must_use]
pub fn drift(policy: &Policy, evidence: &Evidence, today: Date, soon: u16) -> Vec<Drift> {
    let known = Known::new(policy);
    let mut used = BTreeSet::new();
    // A name has many addresses: they are one difference together.
    let mut together: BTreeMap<Difference, Vec<&Destination>> = BTreeMap::new();
    for seen in &evidence.destinations {
        // Where it may have been one of several tools, each of them must be allowed to.
        let each = seen.by_tool();
        let judged = each.flat_map(|each| known.judge(&each, today, &mut used));
        let differing: BTreeSet<Difference> = judged
            .map(|difference| difference.of_tools(seen.tools()))
            .collect();
        for difference in differing {
            together.entry(difference).or_default().push(seen);
        }
    }
    let mut found: Vec<Drift> = together
        .into_iter()
        .map(|(difference, seen)| known.drift(&difference, &seen, evidence))
        .collect();
    let knows_tools = evidence
        .destinations
        .iter()
        .any(|seen| seen.tools().is_some());
    let unused = unused(policy, &used, today, days_after(today, soon));
    found.extend(unused.into_iter().filter(|each| {
        // Where no record names a tool, nothing is known of entries for tools.
        let entry = each.entry.and_then(|index| policy.entries.get(index));
        let is_for_any = entry.is_none_or(|entry| entry.tools.is_none());
        each.kind != Kind::Stale || is_for_any || knows_tools
    }));
    found.sort_by(|one, other| (one.kind, &one.to).cmp(&(other.kind, &other.to)));
    found
}

/// Approvals that nothing was observed of, or that soon end.
fn unused(policy: &Policy, used: &BTreeSet<usize>, today: Date, soon: Date) -> Vec<Drift> {
    let mut found = Vec::new();
    for (index, entry) in policy.entries.iter().enumerate() {
        if !entry.is_in_force(today) {
            continue;
        }
        let services: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
        let mut tell = |kind: Kind, detail: String| {
            found.push(Drift {
                kind,
                level: kind.level(),
                to: entry.to.to_string(),
                service: services.join(" "),
                detail,
                entry: Some(index),
            });
        };
        if let Some(end) = entry.expires.filter(|end| *end <= soon) {
            tell(Kind::Expiring, format!("approved until {end}"));
        }
        if !used.contains(&index) {
            tell(Kind::Stale, "approved, and not observed".to_owned());
        }
    }
    found
}
