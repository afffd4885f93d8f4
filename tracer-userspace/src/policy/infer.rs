//! From observations to candidate entries and their evidence.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    analysis::risk,
    policy::{
        evidence::{self, Evidence, GapFigures},
        model::{Entry, Service, Status, Target},
        observe::{Destination, Observations},
        seen::Seen,
        translation::{Left, Translation},
    },
};

/// One candidate per address, with sorted services; sorted by address.
#[must_use]
pub fn entries(observations: &Observations) -> Vec<Entry> {
    let mut entries: BTreeMap<IpAddr, Entry> = BTreeMap::new();
    for (destination, seen) in observations.destinations() {
        let entry = entries
            .entry(destination.ip)
            .or_insert_with(|| Entry::candidate(Target::Address(destination.ip), Vec::new()));
        // Destinations come sorted, each service once.
        entry.ports.push(destination.service.clone());
        entry.translated.extend(translations(destination, seen));
    }
    entries.into_values().collect()
}

/// What left for one destination; nothing if that was always what was asked for.
fn translations(destination: &Destination, seen: &Seen) -> Vec<Translation> {
    let translation = |left: &Left| Translation {
        service: destination.service.clone(),
        left: *left,
    };
    let left = seen.left.iter();
    match seen.left.is_only_as_asked() {
        true => Vec::new(),
        false => left.map(translation).collect(),
    }
}

impl Entry {
    /// An entry that nobody has decided on, with what is found about where it goes.
    #[must_use]
    pub fn candidate(to: Target, ports: Vec<Service>) -> Self {
        let findings = risk::written(&to, &ports);
        Self {
            to,
            ports,
            translated: Vec::new(),
            tools: None,
            status: Status::Candidate,
            reason: None,
            owner: None,
            approved: None,
            expires: None,
            reference: None,
            findings,
            acknowledged: Vec::new(),
        }
    }
}

/// The figures behind the candidates.
#[must_use]
pub fn evidence(observations: &Observations) -> Evidence {
    let incomplete = observations.incomplete();
    Evidence {
        schema: evidence::SCHEMA.to_owned(),
        workload: observations.workload().to_owned(),
        complete: incomplete.is_empty(),
        incomplete,
        runs: observations.runs() as u64,
        unclosed: observations.unclosed(),
        left_out: observations.turned_away(),
        gaps: gaps(observations),
        missing_hooks: observations.missing_hooks().clone(),
        sources: observations.sources().map(evidence::Source::from).collect(),
        destinations: observations
            .destinations()
            .map(|(destination, seen)| figures(destination, seen))
            .collect(),
        vanished: Vec::new(),
    }
}

fn gaps(observations: &Observations) -> Vec<GapFigures> {
    observations
        .gaps()
        .map(|(severity, what, tally)| GapFigures {
            what,
            severity,
            records: tally.records,
            lost: tally.lost,
        })
        .collect()
}

fn figures(destination: &Destination, seen: &Seen) -> evidence::Destination {
    evidence::Destination {
        to: destination.ip,
        service: destination.service.clone(),
        runs: seen.runs.len() as u64,
        connections: seen.count,
        outcomes: seen.outcomes.clone(),
        bytes_sent: seen.bytes_sent,
        bytes_received: seen.bytes_received,
        first_seen: seen.first_seen,
        last_seen: seen.last_seen,
        names: seen.names.iter().cloned().collect(),
        more_names: seen.names.more(),
        processes: seen.processes.iter().map(str::to_owned).collect(),
        more_processes: seen.processes.more(),
        via_engine: seen.via_engine,
        writable_path: seen.writable_path,
        channels: seen.channels.iter().copied().collect(),
        translated: translations(destination, seen)
            .iter()
            .map(|translation| translation.left.to_string())
            .collect(),
        more_translated: seen.left.more(),
    }
}
