//! `Approved`: what a policy allows by name, and whose answers count.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    policy::model::Service,
    record::Protocol,
    render::{
        Denied, RuleSet,
        names::{self, Name, Packets},
    },
};

/// The port of DNS.
pub(crate) const DNS_PORT: u16 = 53;

/// One set of addresses that a name fills.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    packets: Packets,
    /// For IPv4 and IPv6.
    sets: [Arc<str>; 2],
}

/// Names with their sets, and resolvers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Approved {
    exact: BTreeMap<String, Vec<Target>>,
    /// Wildcards that a person wrote, by their parent.
    below: BTreeMap<String, Vec<Target>>,
    /// Whose answers count, by transport.
    resolvers: BTreeSet<(IpNet, Protocol)>,
    denied: Vec<Denied>,
}

impl Approved {
    /// What the rules say; what no set can hold comes back in sentences.
    pub(crate) fn of(rules: &RuleSet) -> (Self, Vec<String>) {
        let mut omissions = Vec::new();
        let mut approved = Self {
            denied: rules.denied.clone(),
            ..Self::default()
        };
        let parts = rules.parts().map(|part| names::sets(part, &mut omissions));
        for (name, packets, sets) in names::Sets::joined(parts).iter() {
            let target = Target {
                packets,
                sets: sets.map(Arc::from),
            };
            let (map, name) = match name {
                Name::Exact(name) => (&mut approved.exact, name),
                Name::Below(parent) => (&mut approved.below, parent),
            };
            map.entry(name.clone()).or_default().push(target);
        }
        for rule in &rules.rules {
            if let Service::Port {
                protocol: protocol @ (Protocol::UDP | Protocol::TCP),
                port: DNS_PORT,
            } = rule.service
            {
                approved.resolvers.insert((rule.to, protocol));
            }
        }
        (approved, omissions)
    }

    /// Names and wildcards.
    pub(crate) fn names(&self) -> usize {
        self.exact.len() + self.below.len()
    }

    pub(crate) fn resolvers(&self) -> impl Iterator<Item = &(IpNet, Protocol)> {
        self.resolvers.iter()
    }

    /// The transports over which no resolver is approved.
    pub(crate) fn missing(&self) -> Vec<Protocol> {
        let has = |wanted: Protocol| self.resolvers.iter().any(|(_, one)| *one == wanted);
        [Protocol::UDP, Protocol::TCP]
            .into_iter()
            .filter(|protocol| !has(*protocol))
            .collect()
    }

    pub(crate) fn is_resolver(&self, address: IpAddr, protocol: Protocol) -> bool {
        let mut resolvers = self.resolvers.iter();
        resolvers.any(|(network, one)| *one == protocol && network.contains(&address))
    }

    /// Every set there has to be.
    pub(crate) fn sets(&self) -> BTreeSet<Arc<str>> {
        let targets = self.exact.values().chain(self.below.values()).flatten();
        targets.flat_map(|target| target.sets.clone()).collect()
    }

    /// The sets that `name` fills with `address`: of the name itself and of wildcards above it,
    /// without those whose service is denied at the address.
    pub(crate) fn sets_of(&self, name: &str, address: IpAddr) -> Vec<Arc<str>> {
        let above = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let below = above.filter_map(|parent| self.below.get(parent));
        let targets = self.exact.get(name).into_iter().chain(below).flatten();
        let number = usize::from(address.is_ipv6());
        targets
            .filter(|target| !self.is_denied(address, target.packets))
            .map(|target| Arc::clone(&target.sets[number]))
            .collect()
    }

    fn is_denied(&self, address: IpAddr, packets: Packets) -> bool {
        let service = match packets.port {
            Some(port) => Service::Port {
                protocol: packets.protocol,
                port,
            },
            None => Service::Protocol {
                protocol: packets.protocol,
                kind: None,
            },
        };
        let mut denied = self
            .denied
            .iter()
            .filter(|denied| denied.to.contains(&address));
        denied.any(|denied| denied.services.iter().any(|port| port.covers(&service)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
pub(super) mod tests {
    use super::*;
    use crate::render::{NamedRule, Origin, Rule};

    /// Names with services, the resolver 198.51.100.53, and what is denied at 203.0.113.66.
    pub(in crate::names) fn approved(names: &[(&str, &str)]) -> Approved {
        let resolver = |service: &str| {
            Rule::new(
                "198.51.100.53/32".parse().unwrap(),
                service.parse().unwrap(),
                "",
            )
        };
        let mut rules = RuleSet::new(
            "w",
            Origin::Reviewed,
            vec![resolver("53/tcp"), resolver("53/udp")],
        );
        rules.names = names
            .iter()
            .map(|(name, service)| NamedRule {
                name: (*name).to_owned(),
                service: service.parse().unwrap(),
                comment: String::new(),
                expires: None,
            })
            .collect();
        rules.denied = vec![Denied {
            to: "203.0.113.66/32".parse().unwrap(),
            services: vec!["443/tcp".parse().unwrap()],
        }];
        Approved::of(&rules).0
    }

    #[test]
    fn a_name_fills_its_own_sets_and_those_of_wildcards_above_it() {
        let approved = approved(&[
            ("api.example", "443/tcp"),
            ("api.example", "8443/tcp"),
            ("*.example", "443/tcp"),
            ("*.deep.example", "443/tcp"),
        ]);
        let count = |name, to: &str| approved.sets_of(name, to.parse().unwrap()).len();
        assert_eq!(count("api.example", "203.0.113.1"), 3);
        assert_eq!(count("a.deep.example", "2001:db8::1"), 2);
        for other in [
            "example",
            "apiexample",
            "api.example.org",
            "xapi.example.com",
        ] {
            assert_eq!(count(other, "203.0.113.1"), 0, "{other}");
        }
        assert_eq!(approved.sets().len(), 8);
        // What is denied at an address stays denied under any name.
        let left = approved.sets_of("api.example", "203.0.113.66".parse().unwrap());
        assert_eq!(left.len(), 1);
        assert!(left[0].contains("_8443_"), "{left:?}");
    }
}
