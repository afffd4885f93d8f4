//! NetworkPolicy and CiliumNetworkPolicy: what their egress rules let pass, by address and name.
//! Peers inside the cluster are told by labels, which flows do not carry.

use serde_json::Value;

use super::list::{self, List};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

pub(super) fn network_policy(object: &Value, list: &mut List) {
    for rule in array(object.pointer("/spec/egress")) {
        let Some(services) = ports(array(rule.get("ports")), list) else {
            continue;
        };
        let peers = array(rule.get("to"));
        if peers.is_empty() {
            allow_everywhere(&services, list);
        }
        for peer in peers {
            let Some(block) = peer.get("ipBlock") else {
                list.note("a peer is told by labels, which flows do not carry");
                continue;
            };
            // What is taken out of a block comes first: the first that matches decides.
            for hole in array(block.get("except")) {
                deny(hole, &services, list);
            }
            allow_block(block, &services, list);
        }
    }
}

pub(super) fn cilium(object: &Value, list: &mut List) {
    let one = object.get("spec").into_iter();
    for spec in one.chain(array(object.get("specs"))) {
        for rule in array(spec.get("egressDeny")) {
            let services = cilium_services(rule, list).unwrap_or_default();
            for block in array(rule.get("toCIDR")) {
                deny(block, &services, list);
            }
        }
        for rule in array(spec.get("egress")) {
            cilium_rule(rule, list);
        }
    }
}

fn cilium_rule(rule: &Value, list: &mut List) {
    let Some(services) = cilium_services(rule, list) else {
        return;
    };
    for block in array(rule.get("toCIDR")) {
        match block.as_str().and_then(list::network) {
            Some(network) => list.allow(list::target(network), &services, None),
            None => list.note(format!("{block} is not a network")),
        }
    }
    for block in array(rule.get("toCIDRSet")) {
        for hole in array(block.get("except")) {
            deny(hole, &services, list);
        }
        allow_block(block, &services, list);
    }
    for name in array(rule.get("toFQDNs")) {
        let pattern = name.get("matchName").or_else(|| name.get("matchPattern"));
        let target = pattern.and_then(Value::as_str).map(str::parse::<Target>);
        match target {
            Some(Ok(target)) => list.allow(target, &services, None),
            Some(Err(_)) | None => list.note(format!("{name} is no exact name, and no *.NAME")),
        }
    }
    match array(rule.get("toEntities")).as_slice() {
        [] => {}
        all if all.iter().any(|each| *each == "world" || *each == "all") => {
            allow_everywhere(&services, list);
        }
        _others => list.note("an entity is told by identity, which flows do not carry"),
    }
    if rule.get("toEndpoints").is_some() || rule.get("toServices").is_some() {
        list.note("a peer is told by labels, which flows do not carry");
    }
}

fn cilium_services(rule: &Value, list: &mut List) -> Option<Vec<Service>> {
    let icmps = array(rule.get("icmps"));
    if !icmps.is_empty() {
        let fields = icmps.into_iter().flat_map(|each| array(each.get("fields")));
        return Some(fields.filter_map(|field| icmp(field, list)).collect());
    }
    let ports_of = array(rule.get("toPorts"));
    let all = ports_of
        .into_iter()
        .flat_map(|each| array(each.get("ports")));
    ports(all.collect(), list)
}

fn icmp(field: &Value, list: &mut List) -> Option<Service> {
    let protocol = match field.get("family").and_then(Value::as_str) {
        Some("IPv6") => Protocol::ICMPV6,
        Some(_) | None => Protocol::ICMP,
    };
    let number = field.get("type").and_then(Value::as_u64);
    let number = number.and_then(|number| u8::try_from(number).ok());
    let service = number.and_then(|number| list::icmp(protocol, number));
    if service.is_none() {
        list.note(format!("{field} is not a type of ICMP that is known"));
    }
    service
}

/// `None` if there are some and none is understood. Without any, everything passes.
fn ports(ports: Vec<&Value>, list: &mut List) -> Option<Vec<Service>> {
    if ports.is_empty() {
        return Some(list::any_service());
    }
    let mut services = Vec::new();
    for port in ports {
        match service(port) {
            Some(found) => services.extend(found),
            None => list.note(format!("{port} is not a port by number")),
        }
    }
    (!services.is_empty()).then_some(services)
}

fn service(port: &Value) -> Option<Vec<Service>> {
    let protocols = match port
        .get("protocol")
        .and_then(Value::as_str)
        .unwrap_or("TCP")
    {
        "TCP" => vec![Protocol::TCP],
        "UDP" => vec![Protocol::UDP],
        "SCTP" => vec![Protocol::SCTP],
        "ANY" => vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP],
        _other => return None,
    };
    let number = |value: &Value| match value.as_str() {
        Some(text) => text.parse::<u16>().ok(),
        None => u16::try_from(value.as_u64()?).ok(),
    };
    let first = match port.get("port") {
        None => return Some(protocols.into_iter().map(list::all_of).collect()),
        Some(value) => number(value)?,
    };
    let last = port.get("endPort").and_then(number).unwrap_or(first);
    let each = protocols
        .iter()
        .flat_map(|protocol| (first..=last).map(|port| list::port(*protocol, port)));
    Some(each.collect())
}

fn allow_block(block: &Value, services: &[Service], list: &mut List) {
    let cidr = block.get("cidr").and_then(Value::as_str);
    match cidr.and_then(list::network) {
        Some(network) => list.allow(list::target(network), services, None),
        None => list.note(format!("{block} has no network")),
    }
}

fn deny(block: &Value, services: &[Service], list: &mut List) {
    if let Some(network) = block.as_str().and_then(list::network) {
        list.deny(&list::target(network), services);
    }
}

fn allow_everywhere(services: &[Service], list: &mut List) {
    for network in list::everywhere() {
        list.allow(list::target(network), services, None);
    }
}

pub(super) fn array(value: Option<&Value>) -> Vec<&Value> {
    value
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().collect())
}
