//! Drift: where what was observed and what was reviewed part ways.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Observed at an approved destination, on a port or protocol, for a tool or by a process that is
    /// not approved there, or rewritten to a place that is not.
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
                "Observed at an approved destination, with a service, for a tool or by a process \
                 not approved there, or rewritten to a place not approved there."
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
    // A name has many addresses: they are one difference together.
    let mut together: BTreeMap<Difference, Vec<&Destination>> = BTreeMap::new();
    for seen in &evidence.destinations {
        // Where it may have been one of several tools, each of them must be allowed to.
        let each = seen.by_tool();
        let judged = each.flat_map(|each| known.judge(&each, today, &mut used));
        let differing: BTreeSet<Difference> = judged
            .map(|difference| Difference {
                tool: seen.tools(),
                ..difference
            })
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

/// What differs: the key by which observations of the same are put together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    kind: Kind,
    to: Target,
    service: Service,
    tool: Option<String>,
    entry: Option<usize>,
}

/// The entries, ready to be asked about addresses and names. Those for tools speak of what was seen
/// for these tools alone.
struct Known<'p> {
    entries: &'p [Entry],
    exact: BTreeMap<&'p Target, Vec<usize>>,
    /// Networks and wildcards.
    wide: Vec<usize>,
}

impl<'p> Known<'p> {
    fn new(policy: &'p Policy) -> Self {
        let mut exact: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
        let mut wide = Vec::new();
        for (index, entry) in policy.entries.iter().enumerate() {
            match &entry.to {
                to @ (Target::Address(_) | Target::Name(_)) => {
                    exact.entry(to).or_default().push(index);
                }
                Target::Network(_) | Target::Published(_) | Target::Wildcard(_) => {
                    wide.push(index);
                }
            }
        }
        Self {
            entries: &policy.entries,
            exact,
            wide,
        }
    }

    fn about(&self, to: &Target) -> Vec<usize> {
        let exact = self.exact.get(to).into_iter().flatten();
        let wide = self.wide.iter();
        let around = wide.filter(|index| self.entries[**index].to.covers(to));
        exact.chain(around).copied().collect()
    }

    /// What differs of one destination: at most one thing for each name that it was reached by.
    fn judge(
        &self,
        seen: &Destination,
        today: Date,
        used: &mut BTreeSet<usize>,
    ) -> Vec<Difference> {
        let address = Target::Address(seen.to);
        let by_address = self.about(&address);
        if seen.believed.is_empty() {
            let found = self.judge_as(&address, &by_address, seen, today, used);
            return found.into_iter().collect();
        }
        let names = seen.believed.iter().map(|name| Target::Name(name.clone()));
        names
            .filter_map(|name| {
                // Entries for the address allow and deny it under any name.
                let entries = [by_address.clone(), self.about(&name)].concat();
                self.judge_as(&name, &entries, seen, today, used)
            })
            .collect()
    }

    /// `entries` are those about the destination.
    fn judge_as(
        &self,
        to: &Target,
        entries: &[usize],
        seen: &Destination,
        today: Date,
        used: &mut BTreeSet<usize>,
    ) -> Option<Difference> {
        let covers = |index: &&usize| {
            let Entry { ports, tools, .. } = &self.entries[**index];
            seen.is_for(tools.as_deref()) && ports.iter().any(|port| port.covers(&seen.service))
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
            return self.judge_process(to, &effective, &covering, seen);
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
            (None, None, None) => match of(&in_force, entries) {
                Some(index) => (Kind::Changed, Some(index)),
                None => (Kind::New, None),
            },
        };
        Some(Difference {
            kind,
            to: to.clone(),
            service: seen.service.clone(),
            tool: seen.tool.clone(),
            entry,
        })
    }

    /// What differs of a destination that is approved, if not for everyone who went there: by the
    /// entries in force, and by all that speak of it.
    fn judge_process(
        &self,
        to: &Target,
        effective: &[usize],
        covering: &[usize],
        seen: &Destination,
    ) -> Option<Difference> {
        let others = |entries: &[usize]| -> Vec<&String> {
            let mut others: Vec<&String> = seen.processes.iter().collect();
            for index in entries {
                match &self.entries[*index].processes {
                    Some(named) => others.retain(|process| !named.contains(process)),
                    None => return Vec::new(),
                }
            }
            others
        };
        if others(effective).is_empty() {
            return None;
        }
        let is_open = |index: &&usize| self.entries[**index].status == Status::Candidate;
        let proposed = covering
            .iter()
            .find(is_open)
            .filter(|_| others(covering).is_empty());
        let (kind, entry) = match proposed {
            Some(index) => (Kind::Unreviewed, Some(*index)),
            None => (Kind::Changed, effective.first().copied()),
        };
        Some(Difference {
            kind,
            to: to.clone(),
            service: seen.service.clone(),
            tool: seen.tool.clone(),
            entry,
        })
    }

    /// `seen` is not empty.
    fn drift(&self, found: &Difference, seen: &[&Destination], evidence: &Evidence) -> Drift {
        let runs = match &found.to {
            Target::Name(name) => {
                let mut names = evidence.names.iter();
                let named = names.find(|each| each.to == *name && each.service == found.service);
                named.map(|named| named.runs)
            }
            Target::Address(_)
            | Target::Network(_)
            | Target::Published(_)
            | Target::Wildcard(_) => None,
        };
        let most = || seen.iter().map(|seen| seen.runs).max().unwrap_or(0);
        Drift {
            kind: found.kind,
            level: found.kind.level(),
            to: found.to.to_string(),
            service: found.service.to_string(),
            detail: self.detail(found, seen, runs.unwrap_or_else(most)),
            entry: found.entry,
        }
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

    fn detail(&self, found: &Difference, seen: &[&Destination], runs: u64) -> String {
        let figures = figures(found, seen, runs);
        let Some(entry) = found.entry.map(|index| &self.entries[index]) else {
            return figures;
        };
        let why = match found.kind {
            Kind::Denied => entry
                .reason
                .as_ref()
                .map(|reason| format!("denied because: {reason}")),
            Kind::Expired if !entry.is_as_approved() => {
                Some("the published range is wider than was approved".to_owned())
            }
            Kind::Expired => entry.expires.map(|day| format!("approved until {day}")),
            Kind::Changed => {
                let ports = entry.ports.iter().map(ToString::to_string);
                let places = entry.translated.iter().map(ToString::to_string);
                let tools = entry.tools.iter().flatten();
                let tools = tools.map(|tool| format!("for tool {tool}"));
                let processes = entry.processes.iter().flatten();
                let processes = processes.map(|process| format!("by {process}"));
                let all: Vec<String> = ports.chain(places).chain(tools).chain(processes).collect();
                Some(format!("approved there: {}", all.join(", ")))
            }
            Kind::New | Kind::Unreviewed | Kind::Expiring | Kind::Stale => None,
        };
        why.map_or_else(|| figures.clone(), |why| format!("{figures}; {why}"))
    }
}

fn figures(found: &Difference, seen: &[&Destination], runs: u64) -> String {
    let connections: u64 = seen.iter().map(|seen| seen.connections).sum();
    let processes: BTreeSet<&str> = seen
        .iter()
        .flat_map(|seen| seen.processes.iter().map(String::as_str))
        .collect();
    let processes: Vec<&str> = processes.into_iter().collect();
    let by = match processes.is_empty() {
        true => String::new(),
        false => format!(" by {}", processes.join(", ")),
    };
    let tool = found.tool.as_ref();
    let by = tool.map_or_else(|| by.clone(), |tool| format!("{by} for tool {tool}"));
    let at = match (&found.to, seen) {
        (Target::Name(_), [first]) => format!(" at {}", first.to),
        (Target::Name(_), [first, rest @ ..]) => {
            format!(" at {} and {} more", first.to, rest.len())
        }
        _ => String::new(),
    };
    let last = seen.iter().filter_map(|seen| seen.last_seen).max();
    let last = last.map_or_else(String::new, |time| format!(", last {time:.0}"));
    let places: BTreeSet<&str> = seen
        .iter()
        .flat_map(|seen| seen.translated.iter().map(String::as_str))
        .collect();
    let places: Vec<&str> = places.into_iter().collect();
    let left = match places.is_empty() {
        true => String::new(),
        false => format!(", left {}", places.join(", ")),
    };
    format!("{connections} time(s) in {runs} run(s){by}{at}{last}{left}")
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
        if let Some(processes) = &entry.processes {
            line += &format!(", processes {}", processes.join(" "));
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
