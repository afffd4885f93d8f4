//! From a policy and its evidence to the rules that may be rendered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::civil::Date;

use crate::{
    policy::{
        evidence::{Destination, Evidence},
        model::{Entry, Policy, Service, Status},
    },
    render::{Origin, Rule, RuleSet},
};

/// How many process names a rule's comment spells out.
const NAMED_PROCESSES: usize = 3;

/// Rules, and what could not become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub set: RuleSet,
    /// One sentence each. Texts come from the policy: escape them before printing.
    pub omitted: Vec<String>,
}

/// What nobody has denied: candidates and approvals. For looking at, not for enforcing.
#[must_use]
pub fn unreviewed(policy: &Policy, evidence: &Evidence) -> Rules {
    let allowed = |entry: &&Entry| entry.status != Status::Denied;
    build(policy, evidence, Origin::Candidate, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC).
#[must_use]
pub fn reviewed(policy: &Policy, evidence: &Evidence, today: Date) -> Rules {
    let allowed = |entry: &&Entry| entry.is_in_force(today);
    build(policy, evidence, Origin::Reviewed, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC), and all candidates: to be
/// tried out, never to be trusted.
#[must_use]
pub fn with_candidates(policy: &Policy, evidence: &Evidence, today: Date) -> Rules {
    let allowed = |entry: &&Entry| entry.status == Status::Candidate || entry.is_in_force(today);
    build(policy, evidence, Origin::Candidate, allowed)
}

fn build(
    policy: &Policy,
    evidence: &Evidence,
    origin: Origin,
    allowed: impl Fn(&&Entry) -> bool,
) -> Rules {
    let denials = Denials::new(policy);
    let comments = Comments::new(evidence);
    let mut omitted = BTreeSet::new();
    let mut rules = BTreeMap::new();
    for entry in policy.entries.iter().filter(allowed) {
        match place(entry) {
            Ok(network) => {
                for service in &entry.ports {
                    omitted.extend(denials.narrower(&network, service));
                    for part in denials.subtract(network, service) {
                        let key = (part, service.clone());
                        let comment = || (comments.of(&network, service), None);
                        let (_, end) = rules.entry(key).or_insert_with(comment);
                        *end = entry.expires.max(*end);
                    }
                }
            }
            Err(why) => {
                omitted.insert(why);
            }
        }
    }
    let rules = rules
        .into_iter()
        .map(|((to, service), (comment, end))| Rule {
            to,
            service,
            comment,
            // What nobody has reviewed has no end either: it is a dry run.
            expires: end.filter(|_| origin == Origin::Reviewed),
        })
        .collect();
    let warnings = evidence.incomplete.clone();
    let set = RuleSet {
        workload: policy.workload.clone(),
        origin,
        rules,
        warnings,
    };
    Rules {
        set,
        omitted: omitted.into_iter().collect(),
    }
}

/// The addresses of an entry, or why it cannot be rendered by address.
fn place(entry: &Entry) -> Result<IpNet, String> {
    if entry.tools.is_some() {
        return Err(format!(
            "{}: rules by address cannot tell one tool from another",
            entry.to
        ));
    }
    entry
        .to
        .network()
        .ok_or_else(|| format!("{}: rules by address cannot follow a name", entry.to))
}

/// What is denied by address, for any tool.
struct Denials<'p> {
    entries: Vec<(IpNet, &'p [Service])>,
}

impl<'p> Denials<'p> {
    fn new(policy: &'p Policy) -> Self {
        let denied = |entry: &&Entry| entry.status == Status::Denied && entry.tools.is_none();
        let entries = policy
            .entries
            .iter()
            .filter(denied)
            .filter_map(|entry| Some((entry.to.network()?, entry.ports.as_slice())))
            .collect();
        Self { entries }
    }

    /// `network` without the addresses for which `service` is denied: a denial wins.
    fn subtract(&self, network: IpNet, service: &Service) -> Vec<IpNet> {
        let denied = |ports: &[Service]| ports.iter().any(|port| port.covers(service));
        self.entries.iter().filter(|(_, ports)| denied(ports)).fold(
            vec![network],
            |parts, (hole, _)| {
                parts
                    .into_iter()
                    .flat_map(|part| without(part, *hole))
                    .collect()
            },
        )
    }

    /// Denials inside what is allowed that these rules cannot express.
    fn narrower(&self, network: &IpNet, service: &Service) -> Vec<String> {
        let overlaps = |hole: &IpNet| hole.contains(network) || network.contains(hole);
        let inside = |port: &&Service| service.covers(port) && !port.covers(service);
        self.entries
            .iter()
            .filter(|(hole, _)| overlaps(hole))
            .flat_map(|(hole, ports)| ports.iter().filter(inside).map(move |port| (hole, port)))
            .map(|(hole, port)| {
                format!("{hole} {port} is denied, but {service} to {network} is allowed as a whole")
            })
            .collect()
    }
}

/// `network` without `hole`, as the largest prefixes that remain.
fn without(network: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&network) {
        return Vec::new();
    }
    if !network.contains(&hole) {
        return vec![network];
    }
    match network.subnets(network.prefix_len() + 1) {
        Ok(halves) => halves.flat_map(|half| without(half, hole)).collect(),
        // A single address contains nothing smaller than itself.
        Err(_) => Vec::new(),
    }
}

/// What rules are for, by destination.
struct Comments<'e> {
    by_address: BTreeMap<IpAddr, Vec<&'e Destination>>,
}

impl<'e> Comments<'e> {
    fn new(evidence: &'e Evidence) -> Self {
        let mut by_address: BTreeMap<IpAddr, Vec<&Destination>> = BTreeMap::new();
        for destination in &evidence.destinations {
            by_address
                .entry(destination.to)
                .or_default()
                .push(destination);
        }
        Self { by_address }
    }

    /// The processes seen there, and whether the engine's resolver asked for them. No figures:
    /// the comment stays the same as long as the destinations do.
    fn of(&self, network: &IpNet, service: &Service) -> String {
        let seen: Vec<&Destination> = self
            .by_address
            .range(network.network()..=network.broadcast())
            .flat_map(|(_, destinations)| destinations)
            .filter(|destination| service.covers(&destination.service))
            .copied()
            .collect();
        let names: BTreeSet<&str> = seen
            .iter()
            .flat_map(|destination| &destination.processes)
            .map(String::as_str)
            .collect();
        let more = seen.iter().any(|destination| destination.more_processes);
        let mut parts: Vec<String> = names
            .iter()
            .take(NAMED_PROCESSES)
            .map(|name| (*name).to_owned())
            .collect();
        match names.len().saturating_sub(NAMED_PROCESSES) {
            0 => {}
            rest if more => parts.push(format!("+{rest} or more")),
            rest => parts.push(format!("+{rest}")),
        }
        if seen.iter().any(|destination| destination.via_engine) {
            parts.push("via engine".to_owned());
        }
        parts.join(", ")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::policy::{document, infer, observe::Observations};

    const HEAD: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";

    fn rules(entries: &str, today: Option<&str>) -> (Vec<String>, Vec<String>) {
        let policy = document::parse(&format!("{HEAD}{entries}")).unwrap();
        let evidence = infer::evidence(&Observations::new("w", 1));
        let rules = match today {
            Some(day) => reviewed(&policy, &evidence, day.parse().unwrap()),
            None => unreviewed(&policy, &evidence),
        };
        let texts = rules
            .set
            .rules
            .iter()
            .map(|rule| format!("{} {}", rule.to, rule.service));
        (texts.collect(), rules.omitted)
    }

    const APPROVED: &str = "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\n\
                            approved = 2026-01-01\nexpires = 2026-02-01\n";

    #[test]
    fn a_denial_makes_a_hole_in_what_is_allowed_around_it() {
        let text = "[[allow]]\nto = \"10.0.0.0/30\"\nports = [\"1/tcp\", \"2/tcp\"]\n\
                    status = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\nports = [\"1/tcp\"]\nstatus = \"denied\"\n";
        let expected = [
            "10.0.0.0/30 2/tcp",
            "10.0.0.0/32 1/tcp",
            "10.0.0.2/31 1/tcp",
        ];
        let (mut rules, omitted) = rules(text, None);
        rules.sort();
        assert_eq!(rules, expected);
        assert!(omitted.is_empty());
    }

    #[test]
    fn names_and_tools_are_reported_not_rendered() {
        let text = "[[allow]]\nto = \"example.com\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\ntools = [\"x\"]\nports = [\"1/tcp\"]\n\
                    status = \"candidate\"\n";
        let (rules, omitted) = rules(text, None);
        assert!(rules.is_empty());
        assert_eq!(omitted.len(), 2);
    }

    #[test]
    fn a_narrower_denial_without_ports_is_reported() {
        let text = "[[allow]]\nto = \"10.0.0.1\"\nports = [\"icmp\"]\nstatus = \"candidate\"\n\
                    [[allow]]\nto = \"10.0.0.1\"\nports = [\"icmp/echo-request\"]\n\
                    status = \"denied\"\n";
        assert_eq!(rules(text, None).1.len(), 1);
    }

    #[test]
    fn only_approvals_that_have_not_expired_are_reviewed() {
        let text = format!(
            "[[allow]]\nto = \"10.0.0.1\"\nports = [\"1/tcp\"]\n{APPROVED}\
             [[allow]]\nto = \"10.0.0.2\"\nports = [\"1/tcp\"]\nstatus = \"candidate\"\n"
        );
        assert_eq!(rules(&text, Some("2026-02-01")).0, ["10.0.0.1/32 1/tcp"]);
        assert!(rules(&text, Some("2026-02-02")).0.is_empty());
    }
}
