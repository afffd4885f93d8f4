//! Rules by name made ready for backends: checked, grouped, and the sets that hold their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::civil::Date;
use sha2::{Digest as _, Sha256};

use super::{
    NamedRule, RuleSet,
    elements::Family,
    nftables::{in_force, protocol_word},
    text,
};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

/// How much of a name the name of its set shows.
const SHOWN: usize = 40;
/// Addresses that a set holds at most: the workload chooses what it asks for, and a name's owner
/// how often its addresses change.
pub(crate) const SET_SIZE: u32 = 65_536;

/// A name that is safe in every language: letters, digits, `-`, `_` and dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Exact(String),
    /// Every name below this one, and not this one.
    Below(String),
}

impl Name {
    /// `None` for what is no host name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
    pub(crate) fn starred(&self) -> String {
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

/// What the addresses of a name are allowed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packets {
    pub(crate) protocol: Protocol,
    /// Absent: all of the protocol.
    pub(crate) port: Option<u16>,
}

/// One set for each name, service and address family: a set of addresses knows no ports, and one of
/// two names would open the addresses of either for the ports of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    /// With the latest day on which one of the rules for it holds.
    sets: BTreeMap<(Name, Packets), Option<Date>>,
}

/// The sets for rules by name; what they cannot hold is an omission.
pub(crate) fn sets(rules: &RuleSet, omissions: &mut Vec<String>) -> Sets {
    let mut sets: BTreeMap<(Name, Packets), Option<Date>> = BTreeMap::new();
    for rule in &rules.names {
        let NamedRule { name, service, .. } = rule;
        let omission = |why: &str| text::line(&format!("{name} {service}: {why}"));
        let packets = match *service {
            Service::Port { protocol, port } => Packets {
                protocol,
                port: Some(port),
            },
            Service::Protocol {
                protocol,
                kind: None,
            } => Packets {
                protocol,
                port: None,
            },
            Service::Protocol {
                protocol: _,
                kind: Some(_),
            } => {
                omissions.push(omission("no set of names for a type"));
                continue;
            }
        };
        let Some(name) = Name::parse(name) else {
            omissions.push(omission("not a host name"));
            continue;
        };
        let end = sets.entry((name, packets)).or_insert(rule.expires);
        *end = end.zip(rule.expires).map(|(one, other)| one.max(other));
    }
    Sets { sets }
}

impl Sets {
    /// Those of all of them, which are declared and filled once.
    pub(crate) fn joined(all: impl IntoIterator<Item = Self>) -> Self {
        let mut sets: BTreeMap<(Name, Packets), Option<Date>> = BTreeMap::new();
        for (key, end) in all.into_iter().flat_map(|each| each.sets) {
            let known = sets.entry(key).or_insert(end);
            *known = known.zip(end).map(|(one, other)| one.max(other));
        }
        Self { sets }
    }

    /// Each name, what it is allowed for, and its sets for IPv4 and IPv6.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, Packets, [String; 2])> {
        self.sets.keys().map(|(name, packets)| {
            let sets = [Family::V4, Family::V6].map(|family| set_name(name, *packets, family));
            (name, *packets, sets)
        })
    }

    pub(super) fn declarations(&self) -> String {
        let declare = |set: &str, kind: &str, about: &str| {
            format!(
                "\n\tset {set} {{\n\t\t# {about}; filled by `egress-tracer names`, or dnsmasq.\n\
                 \t\ttype {kind}\n\t\tsize {SET_SIZE}\n\t\tflags timeout\n\t}}\n"
            )
        };
        let declare_both = |(name, packets, [v4, v6]): (&Name, Packets, [String; 2])| {
            let about = format!("{} {packets}", name.starred());
            declare(&v4, "ipv4_addr", &about) + &declare(&v6, "ipv6_addr", &about)
        };
        self.iter().map(declare_both).collect()
    }

    pub(super) fn lookups(&self) -> String {
        let mut out = String::new();
        for ((name, packets), end) in &self.sets {
            let condition = in_force(*end);
            let word = protocol_word(packets.protocol);
            let rest = match packets.port {
                Some(port) => format!("meta l4proto {word} th dport {port}"),
                None => format!("meta l4proto {word}"),
            };
            for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
                let set = set_name(name, *packets, family);
                out += &format!("\t\t{condition}{word} daddr @{set} {rest} counter accept\n");
            }
        }
        out
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{port}/{}", self.protocol),
            None => self.protocol.fmt(f),
        }
    }
}

/// `names4_tcp_443_api_example_com_1a2b3c4d`: what can be read of the name, and enough of its hash
/// that no two names have one set.
fn set_name(name: &Name, packets: Packets, family: Family) -> String {
    let number = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let name = name.starred();
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let plain = |letter: char| match letter.is_ascii_alphanumeric() {
        true => letter,
        false => '_',
    };
    let shown: String = name.chars().take(SHOWN).map(plain).collect();
    let protocol = protocol_word(packets.protocol);
    match packets.port {
        Some(port) => format!("names{number}_{protocol}_{port}_{shown}_{hash}"),
        None => format!("names{number}_{protocol}_{shown}_{hash}"),
    }
}
