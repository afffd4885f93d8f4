//! Drift: where what was observed and what was reviewed part ways.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::civil::Date;
use serde::Serialize;

use crate::policy::{
    decision::days_after,
    evidence::{Destination, Evidence},
    model::{Entry, Policy, Service, Status, Target},
    translation::Left,
};

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Observed, although it is denied.
    Denied,
    /// Observed, and no entry knows the destination.
    New,
    /// Observed at an approved destination, on a port or protocol that is not approved there, or
    /// rewritten to a place that is not.
    Changed,
    /// Observed, and still a candidate.
    Unreviewed,
    /// Observed, and its approval is over.
    Expired,
    /// Its approval is soon over.
    Expiring,
    /// Approved, and not observed.
    Stale,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Warning,
    Error,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub kind: Kind,
    pub level: Level,
    /// An address, network or name.
    pub to: String,
    pub service: String,
    /// In one sentence. Texts come from the workload and the policy: escape them.
    pub detail: String,
    /// The entry that it is about, from 0, in the policy with its bases.
    #[serde(skip)]
    pub entry: Option<usize>,
}

impl Kind {
    /// Every kind, worst first.
    pub const ALL: [Self; 7] = [
        Self::Denied,
        Self::New,
        Self::Changed,
        Self::Unreviewed,
        Self::Expired,
        Self::Expiring,
        Self::Stale,
    ];

    /// As the output spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unreviewed => "unreviewed",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::Stale => "stale",
        }
    }

    /// In one sentence, for people who see the word for the first time.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Denied => "Observed although it is denied.",
            Self::New => "Observed, and no entry knows the destination.",
            Self::Changed => {
                "Observed at an approved destination, with a service not approved there, or \
                 rewritten to a place not approved there."
            }
            Self::Unreviewed => "Observed, and nobody has decided on it.",
            Self::Expired => "Observed, and its approval is over.",
            Self::Expiring => "Its approval is soon over.",
            Self::Stale => "Approved, and not observed.",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Denied | Self::New | Self::Changed | Self::Unreviewed | Self::Expired => {
                Level::Error
            }
            Self::Expiring | Self::Stale => Level::Warning,
        }
    }
}

/// Every difference between `policy` (with its bases) and what was observed, worst first.
/// Approvals that end within `soon` days of `today` (UTC) are told.
#[must_use]
pub fn drift(policy: &Policy, evidence: &Evidence, today: Date, soon: u16) -> Vec<Drift> {
    let known = Known::new(policy);
    let mut used = BTreeSet::new();
    let mut found: Vec<Drift> = evidence
        .destinations
        .iter()
        .filter_map(|seen| known.judge(seen, today, &mut used))
        .collect();
    found.extend(unused(policy, &used, today, days_after(today, soon)));
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
        // Names and tools cannot be told from evidence by address.
        if entry.to.network().is_some() && entry.tools.is_none() && !used.contains(&index) {
            tell(Kind::Stale, "approved, and not observed".to_owned());
        }
    }
    found
}

/// The entries, ready to be asked about addresses. Those for tools say nothing about traffic in
/// general.
struct Known<'p> {
    entries: &'p [Entry],
    by_address: BTreeMap<IpAddr, Vec<usize>>,
    networks: Vec<usize>,
}

impl<'p> Known<'p> {
    fn new(policy: &'p Policy) -> Self {
        let mut by_address: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        let mut networks = Vec::new();
        for (index, entry) in policy.entries.iter().enumerate() {
            match &entry.to {
                _ if entry.tools.is_some() => {}
                Target::Address(address) => by_address.entry(*address).or_default().push(index),
                Target::Network(_) => networks.push(index),
                Target::Name(_) | Target::Wildcard(_) => {}
            }
        }
        Self {
            entries: &policy.entries,
            by_address,
            networks,
        }
    }

    fn judge(&self, seen: &Destination, today: Date, used: &mut BTreeSet<usize>) -> Option<Drift> {
        let here = Target::Address(seen.to);
        let exact = self.by_address.get(&seen.to).into_iter().flatten();
        let around = self
            .networks
            .iter()
            .filter(|index| self.entries[**index].to.covers(&here));
        let entries: Vec<usize> = exact.chain(around).copied().collect();
        let covers = |index: &&usize| {
            let ports = &self.entries[**index].ports;
            ports.iter().any(|port| port.covers(&seen.service))
        };
        let covering: Vec<usize> = entries.iter().filter(covers).copied().collect();
        let of = |wanted: &dyn Fn(&Entry) -> bool, among: &[usize]| {
            among
                .iter()
                .copied()
                .find(|index| wanted(&self.entries[*index]))
        };
        // A denial speaks of all places to which packets are rewritten.
        let denied = of(&|entry| entry.status == Status::Denied, &covering);
        let in_force = |entry: &Entry| entry.is_in_force(today);
        let effective = covering.iter().copied();
        let effective: Vec<usize> = effective
            .filter(|index| in_force(&self.entries[*index]))
            .collect();
        used.extend(&effective);
        let said = self.said(&effective, &seen.service);
        let open: Vec<Left> = seen
            .left()
            .into_iter()
            .filter(|left| !left.is_among(&said))
            // Behind a service address backends come and go. Who has reviewed none of them holds
            // the address, in the namespace, where that is what leaves.
            .filter(|left| !(left.is_by_host() && is_held_by_address(&said)))
            .collect();
        if denied.is_none() && open.is_empty() {
            return None;
        }
        let speaks = |index: &usize| {
            let said = self.said(&[*index], &seen.service);
            open.iter().any(|left| left.is_among(&said))
        };
        let speaking: Vec<usize> = covering.iter().copied().filter(speaks).collect();
        let expired = of(&|entry| entry.status == Status::Approved, &speaking);
        let (kind, entry) = match (denied, expired, speaking.first()) {
            (Some(index), _, _) => (Kind::Denied, Some(index)),
            (None, Some(index), _) => (Kind::Expired, Some(index)),
            (None, None, Some(&index)) => (Kind::Unreviewed, Some(index)),
            (None, None, None) => match of(&in_force, &entries) {
                Some(index) => (Kind::Changed, Some(index)),
                None => (Kind::New, None),
            },
        };
        Some(Drift {
            kind,
            level: kind.level(),
            to: seen.to.to_string(),
            service: seen.service.to_string(),
            detail: self.detail(kind, entry, seen),
            entry,
        })
    }

    /// Where packets for `service` may go, as far as these entries say.
    fn said(&self, entries: &[usize], service: &Service) -> Vec<Left> {
        let entries = entries.iter().map(|index| &self.entries[*index]);
        let of = |entry: &Entry| {
            let ports = entry.ports.iter().filter(|port| port.covers(service));
            ports.flat_map(|port| entry.left(port)).collect::<Vec<_>>()
        };
        entries.flat_map(of).collect()
    }

    fn detail(&self, kind: Kind, entry: Option<usize>, seen: &Destination) -> String {
        let processes = seen.processes.join(", ");
        let by = if processes.is_empty() {
            String::new()
        } else {
            format!(" by {processes}")
        };
        let last = seen
            .last_seen
            .map_or_else(String::new, |time| format!(", last {time:.0}"));
        let left = match seen.translated.as_slice() {
            [] => String::new(),
            places => format!(", left {}", places.join(", ")),
        };
        let figures = format!(
            "{} time(s) in {} run(s){by}{last}{left}",
            seen.connections, seen.runs
        );
        let Some(entry) = entry.map(|index| &self.entries[index]) else {
            return figures;
        };
        let why = match kind {
            Kind::Denied => entry
                .reason
                .as_ref()
                .map(|reason| format!("denied because: {reason}")),
            Kind::Expired => entry.expires.map(|day| format!("approved until {day}")),
            Kind::Changed => {
                let ports = entry.ports.iter().map(ToString::to_string);
                let places = entry.translated.iter().map(ToString::to_string);
                let all: Vec<String> = ports.chain(places).collect();
                Some(format!("approved there: {}", all.join(", ")))
            }
            Kind::New | Kind::Unreviewed | Kind::Expiring | Kind::Stale => None,
        };
        why.map_or_else(|| figures.clone(), |why| format!("{figures}; {why}"))
    }
}

/// What has changed from one policy to another, by destination, tools and status: a sentence each.
#[must_use]
pub fn changes(old: &Policy, new: &Policy) -> Vec<String> {
    let (before, after) = (lines(old), lines(new));
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    let come = after.difference(&before).map(|line| format!("+ {line}"));
    let mut all: Vec<String> = gone.chain(come).collect();
    all.sort_by(|one, other| one[2..].cmp(&other[2..]));
    all
}

/// Whether the address that is asked for is reviewed, and nothing that the host makes of it.
fn is_held_by_address(said: &[Left]) -> bool {
    said.contains(&Left::AsAsked) && !said.iter().any(Left::is_by_host)
}

/// Each entry in one line, whatever its layout and place.
fn lines(policy: &Policy) -> BTreeSet<String> {
    let line = |entry: &Entry| {
        let ports: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
        let mut line = format!("{} {} {}", entry.to, ports.join(" "), entry.status.word());
        if let Some(tools) = &entry.tools {
            line += &format!(", tools {}", tools.join(" "));
        }
        if !entry.translated.is_empty() {
            let places: Vec<String> = entry.translated.iter().map(ToString::to_string).collect();
            line += &format!(", translated {}", places.join(", "));
        }
        if let Some(end) = entry.expires {
            line += &format!(", until {end}");
        }
        if let Some(owner) = &entry.owner {
            line += &format!(", {owner}");
        }
        if let Some(reason) = &entry.reason {
            line += &format!(": {reason}");
        }
        line
    };
    policy.entries.iter().map(line).collect()
}
