//! `Building`: entries becoming rules, one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::civil::Date;

use super::SeenAt;
use crate::{
    policy::{
        comments::Comments,
        denials::{Denials, narrower_names},
        model::{Entry, Policy, Service, Status, Target},
        observe::stays_inside,
        translation::Translation,
    },
    render::NamedRule,
};

/// How many of the destinations that a rule stands for its comment spells out.
const NAMED_DESTINATIONS: usize = 3;

/// Rules on the way.
pub(super) struct Building<'p> {
    pub(super) denials: Denials<'p>,
    pub(super) comments: Comments<'p>,
    pub(super) seen_at: SeenAt,
    pub(super) rules: BTreeMap<(IpNet, Service), Purpose>,
    pub(super) names: BTreeSet<NamedRule>,
    pub(super) omitted: BTreeSet<String>,
}

/// What a rule is for.
#[derive(Debug, Default)]
pub(super) struct Purpose {
    /// Those who were seen there.
    seen: String,
    /// What was asked for where this is what left.
    stands_for: BTreeSet<String>,
    /// The latest day on which one of its entries holds.
    pub(super) end: Option<Date>,
}

impl Building<'_> {
    pub(super) fn allow(&mut self, entry: &Entry, network: IpNet) {
        for service in &entry.ports {
            self.omitted
                .extend(self.denials.narrower(&network, service));
            let parts = self.denials.subtract(network, service);
            for left in entry.left(service) {
                let translation = Translation {
                    service: service.clone(),
                    left,
                };
                for seen in self.seen_at.sees(&translation) {
                    match seen {
                        None => self.allow_as_asked(entry, &network, service, &parts),
                        // Nothing of it was left to allow.
                        Some(_) if parts.is_empty() => {}
                        Some((ip, leaves)) => {
                            self.allow_translated(entry, service, (ip, &leaves));
                        }
                    }
                }
            }
        }
    }

    fn allow_as_asked(
        &mut self,
        entry: &Entry,
        network: &IpNet,
        service: &Service,
        parts: &[IpNet],
    ) {
        for part in parts {
            let purpose = self.rules.entry((*part, service.clone())).or_default();
            purpose.end = purpose.end.max(entry.expires);
            if purpose.seen.is_empty() {
                purpose.seen = self.comments.of(network, service);
            }
        }
    }

    fn allow_translated(
        &mut self,
        entry: &Entry,
        service: &Service,
        (ip, leaves): (IpAddr, &Service),
    ) {
        if self.seen_at != SeenAt::Output && stays_inside(ip) {
            return;
        }
        for part in self.denials.subtract(IpNet::from(ip), leaves) {
            let purpose = self.rules.entry((part, leaves.clone())).or_default();
            purpose.stands_for.insert(format!("{} {service}", entry.to));
            purpose.end = purpose.end.max(entry.expires);
        }
    }

    /// The services of an entry by name, without those that are denied for that name.
    pub(super) fn allow_name(&mut self, entry: &Entry, all: &[Entry]) {
        let denied: Vec<&Entry> = all
            .iter()
            .filter(|other| other.status == Status::Denied && other.tools.is_none())
            .collect();
        let is_denied = |service: &Service| {
            denied.iter().any(|other| {
                other.to.covers(&entry.to) && other.ports.iter().any(|port| port.covers(service))
            })
        };
        for service in entry.ports.iter().filter(|service| !is_denied(service)) {
            self.omitted
                .extend(narrower_names(&denied, &entry.to, service));
            self.names.insert(NamedRule {
                name: entry.to.to_string(),
                service: service.clone(),
                comment: entry.reason.clone().unwrap_or_default(),
                expires: entry.expires,
            });
        }
    }

    /// What is denied to certain tools and allowed to everybody: nothing takes it from these tools.
    pub(super) fn report_denied_to_tools(&mut self, policy: &Policy) {
        let denied = policy.entries.iter();
        for entry in denied.filter(|entry| entry.status == Status::Denied) {
            let Some(tools) = &entry.tools else {
                continue;
            };
            let overlaps = |service: &Service| {
                let mut ports = entry.ports.iter();
                ports.any(|port| port.covers(service) || service.covers(port))
            };
            let networks = entry.to.networks();
            let is_inside = |to: &IpNet| {
                let mut networks = networks.iter();
                networks.any(|network| network.contains(to) || to.contains(network))
            };
            let is_named = |rule: &NamedRule| {
                let name = rule.name.parse::<Target>();
                let is_its = |name: &Target| name.covers(&entry.to) || entry.to.covers(name);
                overlaps(&rule.service) && name.as_ref().is_ok_and(is_its)
            };
            let mut rules = self.rules.keys();
            if rules.any(|(to, service)| is_inside(to) && overlaps(service))
                || self.names.iter().any(is_named)
            {
                self.omitted.insert(format!(
                    "{} is denied to {}, but allowed to everybody",
                    entry.to,
                    tools.join(", ")
                ));
            }
        }
    }

    /// What is denied, but leaves for a place that is allowed for the sake of something else:
    /// rules by address cannot tell the two apart.
    pub(super) fn report_shared(&mut self, policy: &Policy) {
        let denied = policy
            .entries
            .iter()
            .filter(|entry| entry.status == Status::Denied);
        for entry in denied {
            for translation in &entry.translated {
                let is_open =
                    self.seen_at
                        .sees(translation)
                        .into_iter()
                        .flatten()
                        .any(|(ip, service)| {
                            self.rules
                                .keys()
                                .any(|(to, open)| to.contains(&ip) && open.covers(&service))
                        });
                if is_open {
                    self.omitted.insert(format!(
                        "{} {translation} is denied, but something else that goes there is allowed",
                        entry.to
                    ));
                }
            }
        }
    }
}

impl Purpose {
    /// How many addresses were seen, of which so many were asked for: one to which packets were
    /// rewritten was seen as well.
    pub(super) fn observed(&self, asked: u64) -> u64 {
        asked.max(u64::from(!self.stands_for.is_empty()))
    }

    pub(super) fn comment(self) -> String {
        let named: Vec<&str> = self
            .stands_for
            .iter()
            .take(NAMED_DESTINATIONS)
            .map(String::as_str)
            .collect();
        let rest = self.stands_for.len() - named.len();
        let mut parts = vec![self.seen];
        if !named.is_empty() {
            parts.push(format!("in place of {}", named.join(", ")));
        }
        if rest > 0 {
            parts.push(format!("+{rest}"));
        }
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }
}
