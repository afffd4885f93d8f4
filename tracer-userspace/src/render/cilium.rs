//! CiliumNetworkPolicy: by address, and by name with the DNS rule that names need.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Backend, BadOption, Options, Rendered, RuleSet,
    elements::{Element, Elements, Family, Packets},
    kubernetes::{self, DNS_LABEL, DNS_NAMESPACE},
    names::{self, Name},
    text,
};
use crate::policy::model::Service;

const TOOL: &str = "a CiliumNetworkPolicy";

/// Writes a `cilium.io/v2` object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cilium;

impl Backend for Cilium {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        kubernetes::check_drops(options, TOOL)
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return super::header::refusal(rules, options, &why);
        }
        let elements = Elements::of(rules);
        let mut omissions = elements.omissions.clone();
        let named = named(rules, &mut omissions);
        let mut egress: Vec<Value> = dns(&named, &elements, &mut omissions).into_iter().collect();
        egress.extend(named.into_iter().map(|(rule, _)| rule));
        for ((family, packets), group) in elements.by_packets() {
            match by_address(family, packets, &group) {
                Some(rule) => egress.push(rule),
                None => omissions.extend(kubernetes::inexpressible(&group, TOOL)),
            }
        }
        let object = json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": kubernetes::metadata(rules, &options.pods),
            "spec": {
                "endpointSelector": { "matchLabels": options.pods.labels },
                // One that allows nothing must still deny.
                "enableDefaultDeny": { "egress": true },
                "egress": if egress.is_empty() { vec![json!({})] } else { egress },
            },
        });
        let how = [
            "toCIDRSet is about addresses outside the cluster only. Names need the DNS rule that",
            "comes with them: Cilium learns a name's addresses from the answers it lets through.",
            "",
            "Check:        kubectl apply --dry-run=server -f cilium.yaml",
            "Apply:        kubectl apply -f cilium.yaml",
            "Undo:         kubectl delete -f cilium.yaml",
        ];
        kubernetes::file(rules, &how, &elements, omissions, &object)
    }
}

/// The rule of each service, and the names in it.
fn named(rules: &RuleSet, omissions: &mut Vec<String>) -> Vec<(Value, BTreeSet<Name>)> {
    let mut out = Vec::new();
    for (service, names) in names::by_service(rules, omissions) {
        let packets = match service {
            Service::Port { protocol, port } => Packets::Port { protocol, port },
            Service::Protocol { protocol, .. } => Packets::Protocol(protocol),
        };
        let Some(ports) = kubernetes::port(packets).map(to_ports) else {
            omissions.extend(names.iter().map(|name| {
                let name = name.starred();
                text::line(&format!(
                    "{name} {service}: {TOOL} names ports of TCP, UDP and SCTP only"
                ))
            }));
            continue;
        };
        let one_label = names.iter().filter_map(|name| match name {
            Name::Exact(_) => None,
            Name::Below(parent) => Some(format!("*.{parent}: names one label below it only")),
        });
        omissions.extend(one_label);
        let to: Vec<Value> = names.iter().map(matching).collect();
        out.push((json!({ "toFQDNs": to, "toPorts": ports }), names));
    }
    out
}

/// Lets the names be asked for, and no others. Where none is allowed and DNS was seen all the
/// same, every name may be asked for.
fn dns(
    named: &[(Value, BTreeSet<Name>)],
    elements: &Elements,
    omissions: &mut Vec<String>,
) -> Option<Value> {
    let names: BTreeSet<&Name> = named.iter().flat_map(|(_, names)| names).collect();
    let mut may_ask: Vec<Value> = names.into_iter().map(matching).collect();
    if may_ask.is_empty() {
        if !kubernetes::asks_dns(elements) {
            return None;
        }
        omissions.push(kubernetes::dns_omission());
        may_ask.push(json!({ "matchPattern": "*" }));
    } else if kubernetes::asks_dns(elements) {
        omissions
            .push("53/udp, 53/tcp: the cluster's DNS is asked for these names only".to_owned());
    }
    Some(json!({
        "toEndpoints": [{ "matchLabels": {
            "k8s:io.kubernetes.pod.namespace": DNS_NAMESPACE,
            "k8s:k8s-app": DNS_LABEL,
        }}],
        "toPorts": [{
            "ports": [{ "port": "53", "protocol": "ANY" }],
            "rules": { "dns": may_ask },
        }],
    }))
}

fn matching(name: &Name) -> Value {
    match name {
        Name::Exact(name) => json!({ "matchName": name }),
        Name::Below(parent) => json!({ "matchPattern": format!("*.{parent}") }),
    }
}

fn by_address(family: Family, packets: Packets, group: &[&Element]) -> Option<Value> {
    let blocks: Vec<Value> = group
        .iter()
        .map(|each| json!({ "cidr": each.to.to_string() }))
        .collect();
    match packets {
        Packets::Port { .. } => {
            let ports = to_ports(kubernetes::port(packets)?);
            Some(json!({ "toCIDRSet": blocks, "toPorts": ports }))
        }
        Packets::Icmp(kind) => Some(json!({
            "toCIDRSet": blocks,
            "icmps": [{ "fields": [{ "family": family.name(), "type": kind.number }] }],
        })),
        Packets::Protocol(_) => None,
    }
}

fn to_ports((protocol, port): (&str, u16)) -> Value {
    json!([{ "ports": [{ "port": port.to_string(), "protocol": protocol }] }])
}
