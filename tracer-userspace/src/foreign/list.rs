//! What a list in force opens and closes, put together rule by rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use jiff::civil::Date;

use crate::{
    policy::model::{Entry, Service, Status, Target},
    record::Protocol,
    render::elements,
};

/// Notes that are kept; a list may have a thousand rules of a kind that is not understood.
const MAX_NOTES: usize = 20;

#[derive(Debug, Default)]
pub(super) struct List {
    allowed: BTreeMap<(Target, Option<Date>), BTreeSet<Service>>,
    denied: BTreeMap<Target, BTreeSet<Service>>,
    notes: Vec<String>,
    more_notes: usize,
}

impl List {
    /// Lets `services` pass to `to`, until the end of a day.
    pub(super) fn allow(&mut self, to: Target, services: &[Service], ends: Option<Date>) {
        let known = self.allowed.entry((to, ends)).or_default();
        known.extend(services.iter().cloned());
    }

    /// Lets nothing pass there. The first rule that matches decides: what was let pass before stays
    /// open, and then this is no denial.
    pub(super) fn deny(&mut self, to: &Target, services: &[Service]) {
        let is_open = |(open, _): &(Target, Option<Date>)| open.covers(to) || to.covers(open);
        if !self.allowed.keys().any(is_open) {
            let known = self.denied.entry(to.clone()).or_default();
            known.extend(services.iter().cloned());
        }
    }

    /// Says what opens nothing here, because it is not understood.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if self.notes.contains(&note) {
            return;
        }
        match self.notes.len() < MAX_NOTES {
            true => self.notes.push(note),
            false => self.more_notes += 1,
        }
    }

    /// The entries, those that deny last, and the notes.
    pub(super) fn finish(mut self, form: &str) -> (Vec<Entry>, Vec<String>) {
        if self.more_notes > 0 {
            let note = format!("and {} more that are not understood", self.more_notes);
            self.notes.push(note);
        }
        let allowed = self.allowed.into_iter().map(|((to, ends), services)| {
            let ends = ends.unwrap_or(Date::MAX);
            entry(to, services, Status::Approved, Some(ends), form)
        });
        let denied = self.denied.into_iter();
        let denied = denied.map(|(to, services)| entry(to, services, Status::Denied, None, form));
        (allowed.chain(denied).collect(), self.notes)
    }
}

fn entry(
    to: Target,
    services: BTreeSet<Service>,
    status: Status,
    expires: Option<Date>,
    form: &str,
) -> Entry {
    Entry {
        to,
        ports: services.into_iter().collect(),
        translated: Vec::new(),
        tools: None,
        processes: None,
        status,
        reason: Some(format!("in force ({form})")),
        owner: None,
        approved: None,
        expires,
        reference: None,
        list: Vec::new(),
        at_most: None,
        findings: Vec::new(),
        roles: Vec::new(),
        acknowledged: Vec::new(),
    }
}

/// An address as itself, anything wider as a network.
pub(super) fn target(network: IpNet) -> Target {
    match network.prefix_len() == network.max_prefix_len() {
        true => Target::Address(network.addr()),
        false => Target::Network(network.trunc()),
    }
}

/// An address or a network.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse::<IpNet>()).ok()
}

/// The networks between two addresses of one family, both included.
pub(super) fn between(from: IpAddr, to: IpAddr) -> Vec<IpNet> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            IpSubnets::V4(Ipv4Subnets::new(from, to, 0)).collect()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            IpSubnets::V6(Ipv6Subnets::new(from, to, 0)).collect()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// All addresses of both families.
pub(super) fn everywhere() -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

/// Every port of a protocol, or all of a protocol without ports.
pub(super) fn all_of(protocol: Protocol) -> Service {
    Service::Protocol {
        protocol,
        kind: None,
    }
}

pub(super) fn port(protocol: Protocol, port: u16) -> Service {
    Service::Port { protocol, port }
}

/// Everything there is.
pub(super) fn any_service() -> Vec<Service> {
    (0..=u8::MAX)
        .map(|number| all_of(Protocol(number)))
        .collect()
}

/// An ICMP type by its number.
pub(super) fn icmp(protocol: Protocol, number: u8) -> Option<Service> {
    let name = elements::icmp_name(protocol, number)?;
    Some(Service::Protocol {
        protocol,
        kind: Some(name.to_owned()),
    })
}

/// A protocol by its name or number.
pub(super) fn protocol(text: &str) -> Option<Protocol> {
    let text = match text {
        "ipv6-icmp" | "icmp6" | "ICMPv6" => "icmpv6",
        other => other,
    };
    let number = text.parse::<u8>().map(Protocol);
    number.or_else(|_| text.to_ascii_lowercase().parse()).ok()
}
