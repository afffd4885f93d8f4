//! Rules by name made ready for backends: checked, grouped, and the sets that dnsmasq fills.

use std::collections::{BTreeMap, BTreeSet};

use super::{NamedRule, RuleSet, elements::Family, nftables::protocol_word, text};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

/// A name that is safe in every language: letters, digits, `-`, `_` and dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Exact(String),
    /// Every name below this one, and not this one.
    Below(String),
}

impl Name {
    /// `None` for what is no host name.
    fn parse(text: &str) -> Option<Self> {
        let (text, wrap): (&str, fn(String) -> Self) = match text.strip_prefix("*.") {
            Some(parent) => (parent, Self::Below),
            None => (text, Self::Exact),
        };
        match text.parse::<Target>() {
            Ok(Target::Name(name)) => Some(wrap(name)),
            Ok(_) | Err(_) => None,
        }
    }

    /// As most tools write it: `*.` for every name below.
    pub(super) fn starred(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Below(parent) => format!("*.{parent}"),
        }
    }
}

/// The names of each service; what is no name is an omission.
pub(super) fn by_service(
    rules: &RuleSet,
    omissions: &mut Vec<String>,
) -> BTreeMap<Service, BTreeSet<Name>> {
    let mut grouped: BTreeMap<Service, BTreeSet<Name>> = BTreeMap::new();
    for NamedRule { name, service, .. } in &rules.names {
        match Name::parse(name) {
            Some(name) => {
                grouped.entry(service.clone()).or_default().insert(name);
            }
            None => omissions.push(text::line(&format!("{name} {service}: not a host name"))),
        }
    }
    grouped
}

/// One line for each address, where only names can be said.
pub(super) fn address_omissions(rules: &RuleSet, tool: &str) -> Vec<String> {
    let left_out = rules.left_out.iter().map(|each| text::line(each));
    let addresses = rules.rules.iter().map(|rule| {
        let line = format!("{} {}: {tool} takes names only", rule.to, rule.service);
        text::line(&line)
    });
    left_out.chain(addresses).collect()
}

/// Sets of one address family and service each, named after both.
#[derive(Debug, Default)]
pub(super) struct Sets {
    services: BTreeMap<(Protocol, Option<u16>), BTreeSet<Name>>,
}

/// The sets for rules by name. A set holds addresses alone, so each service needs its own.
pub(super) fn sets(rules: &RuleSet, omissions: &mut Vec<String>) -> Sets {
    let mut services = BTreeMap::new();
    for (service, names) in by_service(rules, omissions) {
        let key = match service {
            Service::Port { protocol, port } => (protocol, Some(port)),
            Service::Protocol {
                protocol,
                kind: None,
            } => (protocol, None),
            Service::Protocol {
                protocol: _,
                kind: Some(_),
            } => {
                omissions.extend(names.iter().map(|name| {
                    let name = name.starred();
                    text::line(&format!("{name} {service}: no set of names for a type"))
                }));
                continue;
            }
        };
        services.insert(key, names);
    }
    Sets { services }
}

impl Sets {
    /// Each service's names, and its sets for IPv4 and IPv6.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&BTreeSet<Name>, [String; 2])> {
        self.services.iter().map(|(&key, names)| {
            let sets = [Family::V4, Family::V6].map(|family| set_name(key, family));
            (names, sets)
        })
    }

    pub(super) fn declarations(&self) -> String {
        let declare = |name: &str, kind: &str| {
            format!("\n\tset {name} {{\n\t\t# Filled by dnsmasq.\n\t\ttype {kind}\n\t}}\n")
        };
        self.iter()
            .map(|(_, [v4, v6])| declare(&v4, "ipv4_addr") + &declare(&v6, "ipv6_addr"))
            .collect()
    }

    pub(super) fn lookups(&self) -> String {
        let mut out = String::new();
        for &(protocol, port) in self.services.keys() {
            let rest = match port {
                Some(port) => {
                    format!("meta l4proto {} th dport {port}", protocol_word(protocol))
                }
                None => format!("meta l4proto {}", protocol_word(protocol)),
            };
            for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
                let set = set_name((protocol, port), family);
                out += &format!("\t\t{word} daddr @{set} {rest} accept\n");
            }
        }
        out
    }
}

fn set_name((protocol, port): (Protocol, Option<u16>), family: Family) -> String {
    let number = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    match port {
        Some(port) => format!("names{number}_{protocol}_{port}"),
        None => format!("names{number}_{protocol}"),
    }
}
