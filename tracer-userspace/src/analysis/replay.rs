//! What rendered packet-filter rules decide, without a kernel: for one packet (`evaluator`), and for
//! everything that was observed.

mod evaluator;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;

pub use evaluator::{Content, Decision, Evaluator, Packet};

use crate::{
    policy::{
        Observations,
        aggregate::Opened,
        model::{Entry, Service, Target},
        observe::Destination,
        seen::Seen,
        translation::{Left, Translation},
    },
    record::Protocol,
    render::{
        RuleSet,
        elements::{Family, Packets},
    },
};

/// What a policy means for what was observed. Every list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// How many destinations were looked at.
    pub destinations: u64,
    pub allowed: u64,
    /// What no rule allows.
    pub denied: Vec<Judged>,
    /// What rules allow in part: the log does not say which ICMP types were sent.
    pub uncertain: Vec<Judged>,
    /// Rules that nothing observed needs.
    pub unused: Vec<Unused>,
    /// Rules for more addresses than were observed.
    pub also_open: Vec<Wide>,
    /// Rules by name. Of what was observed, they allow what was reached by that name, proven or
    /// resolved, at any of its addresses.
    pub by_name: Vec<String>,
    /// Those of them that nothing observed needs.
    pub unused_names: Vec<String>,
    /// What the policy says and packet filters cannot.
    pub left_out: Vec<String>,
    /// Approved for the tool that went there. Only rules per tool let it pass, in the tool's cgroup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_tool: Vec<Judged>,
}

/// A destination, and who went there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    pub to: IpAddr,
    /// The names that it was reached by, proven or resolved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The agent's tool, where the log says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    pub service: String,
    pub runs: u64,
    pub connections: u64,
    pub processes: Vec<String>,
    /// What left, where that was not always what was asked for: `to ADDRESS:PORT`, `as asked`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub translated: Vec<String>,
}

/// A rule without a use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unused {
    pub to: IpNet,
    pub service: String,
}

/// A rule that opens more than was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wide {
    pub to: IpNet,
    pub service: String,
    pub observed: u64,
    /// In words: IPv6 networks hold more addresses than a number in JSON.
    pub opened: String,
}

/// Holds what was observed against the rules, and against `for_tools`, approvals for certain tools,
/// which only rules per tool hold.
#[must_use]
pub fn replay(rules: &RuleSet, for_tools: &[&Entry], observations: &Observations) -> Replay {
    let evaluator = Evaluator::new(rules);
    let mut replay = Replay {
        left_out: evaluator.elements.omissions.clone(),
        by_name: rules
            .names
            .iter()
            .map(|rule| format!("{} {}", rule.name, rule.service))
            .collect(),
        ..Replay::default()
    };
    for (destination, seen) in observations.destinations() {
        replay.destinations += 1;
        let verdicts: BTreeSet<Verdict> = leaving(destination, seen)
            .iter()
            .map(|(ip, service)| evaluator.judge_service(*ip, service))
            .collect();
        // The worst of it: what left in several ways needs all of them.
        match verdicts.last() {
            _ if evaluator.allows_name(destination, seen) => replay.allowed += 1,
            Some(Verdict::Passes) | None => replay.allowed += 1,
            _ if is_for_tool(for_tools, destination, seen) => {
                replay.allowed += 1;
                replay.by_tool.push(judged(destination, seen));
            }
            Some(Verdict::Uncertain) => replay.uncertain.push(judged(destination, seen)),
            Some(Verdict::Denied) => replay.denied.push(judged(destination, seen)),
        }
    }
    evaluator.uses(observations, &mut replay);
    replay.unused_names = evaluator.unused_names(observations);
    replay
}

/// Whether one of the approvals is for the tool that went there, by address or by name.
fn is_for_tool(approvals: &[&Entry], destination: &Destination, seen: &Seen) -> bool {
    let Some(tools) = &seen.tool else {
        return false;
    };
    let names = seen.believed.iter();
    let mut to: Vec<Target> = names.map(|name| Target::Name(name.to_string())).collect();
    to.push(Target::Address(destination.ip));
    let is_approved = |tool: &str| {
        approvals.iter().any(|entry| {
            let is_its = entry.tools.iter().flatten().any(|each| each == tool);
            let is_there = to.iter().any(|to| entry.to.covers(to));
            let service = &destination.service;
            is_its && is_there && entry.ports.iter().any(|port| port.covers(service))
        })
    };
    // Whichever it was.
    tools.iter().all(is_approved)
}

/// What becomes of one thing that left, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passes,
    /// It depends on the ICMP type, which records do not carry.
    Uncertain,
    Denied,
}

/// What left when a destination was asked for: packet filters see no more than that.
fn leaving(destination: &Destination, seen: &Seen) -> Vec<(IpAddr, Service)> {
    let asked = || (destination.ip.to_canonical(), destination.service.clone());
    let left = seen.left.iter().map(|left: &Left| {
        let translation = Translation {
            service: destination.service.clone(),
            left: *left,
        };
        translation.leaves().unwrap_or_else(asked)
    });
    let left: Vec<(IpAddr, Service)> = left.collect();
    match left.is_empty() {
        true => vec![asked()],
        false => left,
    }
}

impl Evaluator {
    /// Whether the sets hold the address by then: one of the names that it was found under is
    /// allowed. Sets know no connections, so that one is enough.
    fn allows_name(&self, destination: &Destination, seen: &Seen) -> bool {
        let service = &destination.service;
        let mut denied = self.denied.iter();
        let is_denied = denied.any(|denied| {
            denied.to.contains(&destination.ip)
                && denied.services.iter().any(|port| port.covers(service))
        });
        let mut names = seen.believed.iter();
        !is_denied && names.any(|name| self.is_named(name, service))
    }

    fn is_named(&self, name: &str, service: &Service) -> bool {
        let name = Target::Name(name.to_owned());
        let mut names = self.names.iter();
        names.any(|(to, allowed)| allowed.covers(service) && to.covers(&name))
    }

    fn unused_names(&self, observations: &Observations) -> Vec<String> {
        let is_used = |to: &Target, allowed: &Service| {
            observations.destinations().any(|(destination, seen)| {
                let covers = |name: &Arc<str>| to.covers(&Target::Name(name.to_string()));
                allowed.covers(&destination.service) && seen.believed.iter().any(covers)
            })
        };
        let unused = self
            .names
            .iter()
            .filter(|(to, allowed)| !is_used(to, allowed));
        unused
            .map(|(to, allowed)| format!("{to} {allowed}"))
            .collect()
    }

    fn judge_service(&self, to: IpAddr, service: &Service) -> Verdict {
        let content = match *service {
            Service::Port { protocol, port } => Content::Port { protocol, port },
            Service::Protocol { protocol, .. } => Content::Protocol(protocol),
        };
        let decision = self.judge(&Packet { to, content });
        let is_icmp = matches!(
            content,
            Content::Protocol(Protocol::ICMP | Protocol::ICMPV6)
        );
        let has_types = || {
            self.networks.iter().any(|(packets, networks)| {
                matches!(packets, Packets::Icmp(_)) && networks.find(to).is_some()
            })
        };
        match decision {
            Decision::Allowed(_) | Decision::Always => Verdict::Passes,
            // Packets through `lo` pass whatever the rules are.
            Decision::NotAllowed if to.is_loopback() => Verdict::Passes,
            Decision::NotAllowed if is_icmp && has_types() => Verdict::Uncertain,
            Decision::NotAllowed => Verdict::Denied,
        }
    }

    /// What each rule was for.
    fn uses(&self, observations: &Observations, replay: &mut Replay) {
        let mut seen: BTreeMap<IpAddr, Vec<Service>> = BTreeMap::new();
        for (destination, figures) in observations.destinations() {
            for (ip, service) in leaving(destination, figures) {
                seen.entry(ip).or_default().push(service);
            }
        }
        for element in &self.elements.list {
            let is_use = |services: &[Service]| {
                let matches = |service: &Service| matches_service(element.packets, service);
                services.iter().any(matches)
            };
            let (to, opened) = (element.to, Opened::of(&element.to));
            let inside = seen.range(to.network()..=to.broadcast());
            let observed = inside.filter(|(_, services)| is_use(services)).count() as u64;
            let service = service_text(element.packets, Family::of(&to));
            if observed == 0 {
                replay.unused.push(Unused { to, service });
            } else if (observed as f64) < opened.0 {
                let opened = opened.to_string();
                replay.also_open.push(Wide {
                    to,
                    service,
                    observed,
                    opened,
                });
            }
        }
    }
}

fn matches_service(packets: Packets, service: &Service) -> bool {
    match (packets, service) {
        (
            Packets::Port { protocol, port },
            Service::Port {
                protocol: seen,
                port: seen_port,
            },
        ) => protocol == *seen && port == *seen_port,
        (Packets::Protocol(protocol), Service::Protocol { protocol: seen, .. }) => {
            protocol == *seen
        }
        (Packets::Icmp(_), Service::Protocol { protocol, .. }) => {
            [Protocol::ICMP, Protocol::ICMPV6].contains(protocol)
        }
        (Packets::Protocol(protocol), Service::Port { protocol: seen, .. }) => protocol == *seen,
        (Packets::Port { .. }, Service::Protocol { .. })
        | (Packets::Icmp(_), Service::Port { .. }) => false,
    }
}

fn service_text(packets: Packets, family: Family) -> String {
    match packets {
        Packets::Port { protocol, port } => format!("{port}/{protocol}"),
        Packets::Protocol(protocol) => protocol.to_string(),
        Packets::Icmp(kind) => match family {
            Family::V4 => format!("icmp/{}", kind.name),
            Family::V6 => format!("icmpv6/{}", kind.name),
        },
    }
}

fn judged(destination: &Destination, seen: &Seen) -> Judged {
    Judged {
        to: destination.ip,
        names: seen.believed.iter().map(ToString::to_string).collect(),
        tool: seen.tool.as_ref().map(ToString::to_string),
        service: destination.service.to_string(),
        runs: seen.runs.len() as u64,
        connections: seen.count,
        processes: seen.processes.iter().map(str::to_owned).collect(),
        translated: match seen.left.is_only_as_asked() {
            true => Vec::new(),
            false => seen.left.iter().map(Left::to_string).collect(),
        },
    }
}
