//! Which records of which log tell of each destination.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    import::{Input, numbered},
    policy::{
        evidence::{Evidence, Pointer},
        model::Service,
    },
};

/// Numbers that are kept of one destination and log.
pub(super) const MAX_LINES: usize = 20;

/// Reads `logs` once more: for each destination of the evidence, the records in those logs that the
/// evidence names. Of `workload` alone, if one is given. Sorted.
pub(super) fn of(
    evidence: &Evidence,
    logs: &[Input],
    workload: Option<&str>,
) -> anyhow::Result<Vec<Pointer>> {
    let mut by_log: BTreeMap<(IpAddr, Service, String), (Vec<u64>, u64)> = BTreeMap::new();
    for log in logs {
        let mut found = Found::of(evidence);
        let digests = numbered::flows(log, &mut |line, whose, here| {
            if whose
                .zip(workload)
                .is_none_or(|(whose, ours)| whose == ours)
            {
                found.note(here.ip, &here.service, line);
            }
        })?;
        let is_source = |digest: &String| {
            let mut sources = evidence.sources.iter();
            sources.any(|source| source.sha256 == *digest)
        };
        // What the evidence does not name is no evidence; a copy says the same again.
        let Some(sha256) = digests.into_iter().flatten().find(is_source) else {
            continue;
        };
        for (to, services) in found.0 {
            for (service, lines, count) in services.into_iter().filter(|(.., count)| *count > 0) {
                by_log.insert((to, service.clone(), sha256.clone()), (lines, count));
            }
        }
    }
    let pointer = |((to, service, sha256), (lines, count))| Pointer {
        to,
        service,
        sha256,
        lines,
        count,
    };
    Ok(by_log.into_iter().map(pointer).collect())
}

/// The first lines about each destination that is wanted, and how many there are.
struct Found<'e>(BTreeMap<IpAddr, Vec<Lines<'e>>>);

/// Those about one service.
type Lines<'e> = (&'e Service, Vec<u64>, u64);

impl<'e> Found<'e> {
    fn of(evidence: &'e Evidence) -> Self {
        let mut wanted: BTreeMap<IpAddr, Vec<Lines<'_>>> = BTreeMap::new();
        for seen in &evidence.destinations {
            let services = wanted.entry(seen.to).or_default();
            if services.iter().all(|(known, ..)| *known != &seen.service) {
                services.push((&seen.service, Vec::new(), 0));
            }
        }
        Self(wanted)
    }

    fn note(&mut self, to: IpAddr, service: &Service, line: u64) {
        let services = self.0.get_mut(&to).into_iter().flatten();
        for (known, lines, count) in services {
            if *known == service {
                *count += 1;
                if lines.len() < MAX_LINES {
                    lines.push(line);
                }
            }
        }
    }
}
