//! From a policy and its evidence to the rules that may be rendered.

mod building;
mod seen_at;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::civil::Date;

pub use seen_at::SeenAt;

use crate::{
    policy::{
        comments::Comments,
        denials::Denials,
        evidence::Evidence,
        lacking,
        model::{Entry, Policy, Service, Status, Target},
    },
    render::{NamedRule, Origin, Rule, RuleSet, ToolRules},
};
use building::Building;

/// Rules, and what could not become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub set: RuleSet,
    /// One sentence each. Texts come from the policy: escape them before printing.
    pub omitted: Vec<String>,
}

/// What nobody has denied: candidates and approvals. For looking at, not for enforcing.
#[must_use]
pub fn unreviewed(policy: &Policy, evidence: &Evidence, seen_at: SeenAt) -> Rules {
    let allowed = |entry: &&Entry| entry.status != Status::Denied;
    build(policy, evidence, Origin::Candidate, seen_at, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC).
#[must_use]
pub fn reviewed(policy: &Policy, evidence: &Evidence, seen_at: SeenAt, today: Date) -> Rules {
    let allowed = |entry: &&Entry| entry.is_in_force(today);
    build(policy, evidence, Origin::Reviewed, seen_at, allowed)
}

/// What a person has approved and what has not expired on `today` (UTC), and all candidates: to be
/// tried out, never to be trusted.
#[must_use]
pub fn with_candidates(
    policy: &Policy,
    evidence: &Evidence,
    seen_at: SeenAt,
    today: Date,
) -> Rules {
    let allowed = |entry: &&Entry| entry.status == Status::Candidate || entry.is_in_force(today);
    build(policy, evidence, Origin::Candidate, seen_at, allowed)
}

/// What `make` makes of the policy for everybody, and what it makes of it for each tool beside that.
#[must_use]
pub fn per_tool(policy: &Policy, make: impl Fn(&Policy) -> Rules) -> Rules {
    let only = |is_meant: &dyn Fn(&Entry) -> bool| Policy {
        entries: policy
            .entries
            .iter()
            .filter(|entry| is_meant(entry))
            .cloned()
            .collect(),
        ..policy.clone()
    };
    let named = policy
        .entries
        .iter()
        .flat_map(|entry| entry.tools.iter().flatten());
    let tools: BTreeSet<&String> = named.collect();
    let of_tool = |tool: &String| {
        let is_denied = |entry: &Entry| entry.status == Status::Denied && entry.tools.is_some();
        let mut seen = only(&|entry| match &entry.tools {
            Some(tools) => tools.contains(tool),
            None => entry.status == Status::Denied,
        });
        let mut denied = seen.entries.iter().filter(|entry| is_denied(entry));
        let has_holes = denied.any(|entry| !entry.to.is_name());
        seen.entries.iter_mut().for_each(|entry| entry.tools = None);
        let mut set = make(&seen).set;
        if has_holes && !set.names.is_empty() {
            let why = "an address that is denied to it alone is not kept out of its names' sets";
            set.left_out.push(why.to_owned());
        }
        let tool = tool.clone();
        ToolRules { tool, set }
    };
    let is_some = |each: &ToolRules| !(each.set.rules.is_empty() && each.set.names.is_empty());
    // What is denied to a tool may be allowed to everybody: that is to be reported.
    let mut rules = make(&only(&|entry| {
        entry.tools.is_none() || entry.status == Status::Denied
    }));
    rules.set.tools = tools.into_iter().map(of_tool).filter(is_some).collect();
    rules
}

/// The same for what takes addresses alone: in place of each name the addresses that it was seen to
/// have. For looking at, as `unreviewed` is: tomorrow it may have others.
#[must_use]
pub fn as_seen(mut rules: Rules, evidence: &Evidence) -> Rules {
    let comments = Comments::new(evidence);
    let mut known: BTreeSet<(IpNet, Service)> = rules
        .set
        .rules
        .iter()
        .map(|rule| (rule.to, rule.service.clone()))
        .collect();
    let mut left = Vec::new();
    for named in std::mem::take(&mut rules.set.names) {
        let addresses = named_addresses(&named, evidence);
        let is_denied = |to: &IpNet| {
            let denied = rules.set.denied.iter();
            denied
                .filter(|denied| denied.to.contains(to))
                .any(|denied| {
                    denied
                        .services
                        .iter()
                        .any(|port| port.covers(&named.service))
                })
        };
        for to in addresses.into_iter().filter(|to| !is_denied(to)) {
            if known.insert((to, named.service.clone())) {
                rules.set.rules.push(Rule {
                    observed: 1,
                    ..Rule::new(to, named.service.clone(), comments.of(&to, &named.service))
                });
            }
        }
        left.push(format!(
            "{} {}: rules by address hold those that it was seen to have, not those of tomorrow",
            named.name, named.service
        ));
    }
    rules.set.rules.sort();
    rules.set.left_out.extend(left.iter().cloned());
    rules.omitted.extend(left);
    rules
}

/// The addresses that a name was seen to have.
fn named_addresses(named: &NamedRule, evidence: &Evidence) -> BTreeSet<IpNet> {
    let Ok(to) = named.name.parse::<Target>() else {
        return BTreeSet::new();
    };
    evidence
        .destinations
        .iter()
        .filter(|seen| named.service.covers(&seen.service) && seen.is_under(&to))
        .map(|seen| IpNet::from(seen.to))
        .collect()
}

fn build(
    policy: &Policy,
    evidence: &Evidence,
    origin: Origin,
    seen_at: SeenAt,
    allowed: impl Fn(&&Entry) -> bool,
) -> Rules {
    let mut building = Building {
        denials: Denials::new(policy),
        comments: Comments::new(evidence),
        seen_at,
        rules: BTreeMap::new(),
        names: BTreeSet::new(),
        omitted: BTreeSet::new(),
    };
    for entry in policy.entries.iter().filter(allowed) {
        match place(entry) {
            Ok(_) if entry.to.is_name() => building.allow_name(entry, &policy.entries),
            Ok(networks) => {
                for network in networks {
                    building.allow(entry, network);
                }
            }
            Err(why) => {
                building.omitted.insert(why);
            }
        }
    }
    building.report_shared(policy);
    building.report_denied_to_tools(policy);
    // What nobody has reviewed has no end either: it is a dry run.
    let in_force = |end: Option<Date>| end.filter(|_| origin == Origin::Reviewed);
    let rules = building.rules.into_iter();
    let rules = rules
        .map(|((to, service), purpose)| Rule {
            observed: purpose.observed(building.comments.observed(&to, &service)),
            to,
            service,
            expires: in_force(purpose.end),
            comment: purpose.comment(),
        })
        .collect();
    let names = building.names.into_iter();
    let names = names
        .map(|rule| NamedRule {
            expires: in_force(rule.expires),
            ..rule
        })
        .collect();
    let omitted: Vec<String> = building.omitted.into_iter().collect();
    let set = RuleSet {
        names,
        denied: building.denials.listed(),
        left_out: omitted.clone(),
        warnings: warnings(evidence),
        ..RuleSet::new(&policy.workload, origin, rules)
    };
    Rules { set, omitted }
}

/// What whoever reads the rules should know of their evidence.
fn warnings(evidence: &Evidence) -> Vec<String> {
    let lacking = lacking::names(&evidence.missing_hooks);
    let lacking = lacking
        .map(|hooks| format!("not every way out was seen: the recording kernel lacked {hooks}"));
    evidence.incomplete.iter().cloned().chain(lacking).collect()
}

/// The addresses of an entry, none for a name, or why no rule can express it.
fn place(entry: &Entry) -> Result<Vec<IpNet>, String> {
    if let Some(tools) = &entry.tools {
        return Err(format!(
            "{}: for {} alone, which is documentation only: these rules cannot tell tools apart \
             (nftables by cgroup can, with `render --per-tool`)",
            entry.to,
            tools.join(", ")
        ));
    }
    Ok(entry.to.networks())
}
