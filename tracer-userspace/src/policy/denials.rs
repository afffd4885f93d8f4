//! What is denied, as holes in what is allowed, and what of it rules cannot express.

use ipnet::IpNet;

use crate::{
    policy::model::{Entry, Policy, Service, Status, Target},
    render::Denied,
};

/// What is denied by address, for any tool.
pub(super) struct Denials<'p> {
    entries: Vec<(IpNet, &'p [Service])>,
}

impl<'p> Denials<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        let denied = |entry: &&Entry| entry.status == Status::Denied && entry.tools.is_none();
        let entries = policy
            .entries
            .iter()
            .filter(denied)
            .flat_map(|entry| {
                let networks = entry.to.networks().into_iter();
                networks.map(|network| (network, entry.ports.as_slice()))
            })
            .collect();
        Self { entries }
    }

    pub(super) fn listed(&self) -> Vec<Denied> {
        let denied = |(to, services): &(IpNet, &[Service])| Denied {
            to: *to,
            services: services.to_vec(),
        };
        self.entries.iter().map(denied).collect()
    }

    /// `network` without the addresses for which `service` is denied: a denial wins.
    pub(super) fn subtract(&self, network: IpNet, service: &Service) -> Vec<IpNet> {
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
    pub(super) fn narrower(&self, network: &IpNet, service: &Service) -> Vec<String> {
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
pub(crate) fn without(network: IpNet, hole: IpNet) -> Vec<IpNet> {
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

/// Denials inside what is allowed by name that rules cannot express: of names below a wildcard, or
/// of a part of the service.
pub(super) fn narrower_names(denied: &[&Entry], to: &Target, service: &Service) -> Vec<String> {
    let inside = |other: &&&Entry| to.covers(&other.to);
    let ports = |other: &&Entry| {
        let name = other.to.to_string();
        let overlaps = |port: &&Service| port.covers(service) || service.covers(port);
        let ports = other.ports.iter().filter(overlaps);
        ports
            .map(|port| format!("{name} {port}"))
            .collect::<Vec<_>>()
    };
    denied
        .iter()
        .filter(inside)
        .flat_map(ports)
        .map(|hole| format!("{hole} is denied, but {service} to {to} is allowed as a whole"))
        .collect()
}
