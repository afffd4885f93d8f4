//! Whether logs still prove what a policy's evidence says.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use crate::policy::{
    evidence::{Destination, Evidence, Source},
    model::Entry,
    observe,
};

/// How far one destination is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The logs at hand say the same.
    Whole,
    /// They say some of it; the rest was in logs that are not at hand.
    Part,
    /// They do not show it any more.
    Gone,
    /// They contradict it.
    Wrong,
}

/// The logs, held against the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// Named by the evidence, and at hand.
    pub found: Vec<Source>,
    /// Named by the evidence, and not at hand.
    pub missing: Vec<Source>,
    /// At hand, and not named.
    pub other: Vec<Source>,
}

impl Sources {
    /// Compares by digest, and the number of records of each.
    #[must_use]
    pub fn compare(evidence: &Evidence, given: &[Source]) -> Self {
        let has = |all: &[Source], one: &Source| all.iter().any(|each| each.sha256 == one.sha256);
        let (found, missing) = evidence
            .sources
            .iter()
            .cloned()
            .partition(|source| has(given, source));
        let other = given.iter().filter(|one| !has(&evidence.sources, one));
        Self {
            found,
            missing,
            other: other.cloned().collect(),
        }
    }
}

/// How far each destination of `said` is proven by `shown`, what the found logs show. Where none is
/// missing, every figure has to agree.
#[must_use]
pub fn judge(said: &Evidence, shown: &Evidence, is_all: bool) -> Vec<(Destination, Proof)> {
    // A destination that was reached under several names, or for several tools, is there for each.
    let key = |each: &Destination| {
        let Destination {
            to,
            service,
            believed,
            tool,
            one_of_tools,
            ..
        } = each;
        let tools = (tool.clone(), one_of_tools.clone());
        (*to, service.clone(), believed.clone(), tools)
    };
    let mut by_place: BTreeMap<_, &Destination> = shown
        .destinations
        .iter()
        .map(|each| (key(each), each))
        .collect();
    let mut judged: Vec<(Destination, Proof)> = said
        .destinations
        .iter()
        .map(|each| {
            (
                each.clone(),
                proof(each, by_place.remove(&key(each)), is_all),
            )
        })
        .collect();
    // The logs that the evidence names show more than it says: it is not theirs.
    let more = by_place
        .into_values()
        .map(|each| (each.clone(), Proof::Wrong));
    judged.extend(more);
    judged
}

fn proof(said: &Destination, shown: Option<&Destination>, is_all: bool) -> Proof {
    let Some(shown) = shown else {
        return if is_all { Proof::Wrong } else { Proof::Gone };
    };
    if shown == said {
        return Proof::Whole;
    }
    let is_within = shown.connections <= said.connections
        && shown.runs <= said.runs
        && shown.first_seen >= said.first_seen
        && shown.last_seen <= said.last_seen;
    match is_within && !is_all {
        true => Proof::Part,
        false => Proof::Wrong,
    }
}

/// The worst of what an entry stands on; `None` if nothing was ever observed of it.
#[must_use]
pub fn of_entry(entry: &Entry, judged: &[(Destination, Proof)]) -> Option<Proof> {
    let about = judged.iter().filter(|(seen, _)| covers(entry, seen));
    about.map(|(_, proof)| *proof).max()
}

/// Whether a destination is evidence for an entry: by address, or by a name that it was reached
/// under.
#[must_use]
pub fn covers(entry: &Entry, seen: &Destination) -> bool {
    let here = observe::Destination {
        ip: seen.to,
        service: seen.service.clone(),
    };
    let names: BTreeSet<&str> = seen.names.iter().map(|name| name.name.as_str()).collect();
    is_about(entry, &here, &names)
}

/// The same for a flow.
#[must_use]
pub fn is_about(entry: &Entry, here: &observe::Destination, names: &BTreeSet<&str>) -> bool {
    let is_there = match entry.to.is_name() {
        false => entry.to.contains(&IpNet::from(here.ip)),
        true => names
            .iter()
            .filter_map(|name| name.parse().ok())
            .any(|name| entry.to.covers(&name)),
    };
    is_there && entry.ports.iter().any(|port| port.covers(&here.service))
}
