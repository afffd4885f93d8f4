//! Calico's NetworkPolicy and GlobalNetworkPolicy: what their egress rules let pass, in order.

use ipnet::IpNet;
use serde_json::Value;

use super::{
    kubernetes::array,
    list::{self, List},
};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

/// What of a rule says where it goes, and is understood.
const DESTINATION: [&str; 3] = ["nets", "ports", "domains"];
/// What of a rule is understood, or says whose traffic it is.
const RULE: [&str; 7] = [
    "action",
    "metadata",
    "ipVersion",
    "protocol",
    "icmp",
    "destination",
    "source",
];

/// Kubernetes has objects of the same kind.
pub(super) fn is(object: &Value) -> bool {
    let version = object.get("apiVersion").and_then(Value::as_str);
    version.is_some_and(|version| version.contains("projectcalico.org/"))
}

pub(super) fn read(object: &Value, list: &mut List) {
    for rule in array(object.pointer("/spec/egress")) {
        let is_allowed = match rule.get("action").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            // Log goes on with the next rule; Pass with another policy.
            Some(_) | None => continue,
        };
        let found = places(rule).and_then(|to| Some((to, services(rule)?)));
        match found {
            Some((to, services)) if is_allowed => {
                for each in to {
                    list.allow(each, &services, None);
                }
            }
            // What closes everything else is no denial of anything.
            Some(_) if rule.get("destination").is_none() => {}
            Some((to, services)) => to.iter().for_each(|each| list.deny(each, &services)),
            None if is_allowed => list.note(format!("a rule is not understood: {rule}")),
            None => {}
        }
    }
}

/// `None` if something is not understood.
fn places(rule: &Value) -> Option<Vec<Target>> {
    let keys = rule.as_object()?.keys();
    let is_known = |known: &[&str], key: &String| known.contains(&key.as_str());
    if !keys.clone().all(|key| is_known(&RULE, key)) {
        return None;
    }
    let version = rule.get("ipVersion").and_then(Value::as_u64);
    let is_meant = |network: &IpNet| match version {
        Some(4) => network.addr().is_ipv4(),
        Some(6) => network.addr().is_ipv6(),
        Some(_) | None => true,
    };
    let everywhere = || {
        let all = list::everywhere().into_iter().filter(is_meant);
        all.map(list::target).collect()
    };
    let Some(destination) = rule.get("destination") else {
        return Some(everywhere());
    };
    let mut keys = destination.as_object()?.keys();
    if !keys.all(|key| is_known(&DESTINATION, key)) {
        return None;
    }
    let nets = array(destination.get("nets")).into_iter();
    let nets = nets.map(|net| list::network(net.as_str()?));
    let nets: Vec<IpNet> = nets.collect::<Option<_>>()?;
    let domains = array(destination.get("domains")).into_iter();
    let domains = domains.map(|name| name.as_str()?.parse::<Target>().ok());
    let domains: Vec<Target> = domains.collect::<Option<_>>()?;
    if destination.get("nets").is_none() && destination.get("domains").is_none() {
        return Some(everywhere());
    }
    let nets = nets.into_iter().filter(is_meant).map(list::target);
    Some(nets.chain(domains).collect())
}

fn services(rule: &Value) -> Option<Vec<Service>> {
    let ports = rule.pointer("/destination/ports");
    let Some(protocol) = rule.get("protocol") else {
        return (ports.is_none() && rule.get("icmp").is_none()).then(list::any_service);
    };
    let number = protocol
        .as_u64()
        .and_then(|number| u8::try_from(number).ok());
    let named = || protocol.as_str().and_then(list::protocol);
    let protocol = number.map(Protocol).or_else(named)?;
    if let Some(icmp) = rule.get("icmp") {
        // A code narrows a type that has no name of its own.
        let kind = icmp.get("type").filter(|_| icmp.get("code").is_none())?;
        let kind = u8::try_from(kind.as_u64()?).ok()?;
        return list::icmp(protocol, kind).map(|service| vec![service]);
    }
    if ports.is_none() {
        return Some(vec![list::all_of(protocol)]);
    }
    let each = array(ports).into_iter().map(range);
    let ranges = each.collect::<Option<Vec<_>>>()?.into_iter();
    Some(
        ranges
            .flatten()
            .map(|port| list::port(protocol, port))
            .collect(),
    )
}

/// `443`, `"443"`, `"8000:8010"`.
fn range(port: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    if let Some(number) = port.as_u64() {
        let number = u16::try_from(number).ok()?;
        return Some(number..=number);
    }
    let text = port.as_str()?;
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}
