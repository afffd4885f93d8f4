//! `Known`: the entries of a policy, and what differs from them of one destination.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::{Drift, Kind};
use crate::policy::{
    evidence::{Destination, Evidence},
    model::{Entry, Policy, Service, Status, Target},
    translation::Left,
};

/// What differs: the key by which observations of the same are put together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    kind: Kind,
    to: Target,
    service: Service,
    tool: Option<String>,
    entry: Option<usize>,
}

impl Difference {
    /// The same of all the tools that it may have been.
    pub(super) fn of_tools(self, tool: Option<String>) -> Self {
        Self { tool, ..self }
    }
}

/// The entries, ready to be asked about addresses and names. Those for tools speak of what was seen
/// for these tools alone.
pub(super) struct Known<'p> {
    entries: &'p [Entry],
    exact: BTreeMap<&'p Target, Vec<usize>>,
    /// Networks and wildcards.
    wide: Vec<usize>,
}

impl<'p> Known<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
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
    pub(super) fn judge(
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
    pub(super) fn drift(
        &self,
        found: &Difference,
        seen: &[&Destination],
        evidence: &Evidence,
    ) -> Drift {
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
    let processes = listed(seen, |seen| &seen.processes);
    let by = processes.map_or_else(String::new, |processes| format!(" by {processes}"));
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
    let places = listed(seen, |seen| &seen.translated);
    let left = places.map_or_else(String::new, |places| format!(", left {places}"));
    format!("{connections} time(s) in {runs} run(s){by}{at}{last}{left}")
}

/// What all of them have of one kind, in order, each once. `None`: nothing.
fn listed(seen: &[&Destination], of: fn(&Destination) -> &Vec<String>) -> Option<String> {
    let all: BTreeSet<&str> = seen
        .iter()
        .flat_map(|seen| of(seen).iter().map(String::as_str))
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Whether the address that is asked for is reviewed, and nothing that the host makes of it.
fn is_held_by_address(said: &[Left]) -> bool {
    said.contains(&Left::AsAsked) && !said.iter().any(Left::is_by_host)
}
