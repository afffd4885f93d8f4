//! Calico's own NetworkPolicy, which can log and knows every protocol.

use serde_json::{Value, json};

use super::{
    Backend, BadOption, Options, Pods, Rendered, RuleSet, Verdict,
    elements::{Element, Elements, Family, Packets},
    header,
    kubernetes::{self, DNS_LABEL, DNS_NAMESPACE},
};
use crate::record::Protocol;

const TOOL: &str = "a Calico NetworkPolicy";

/// Writes a `projectcalico.org/v3` object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calico;

impl Backend for Calico {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check_no_scope(TOOL)?;
        match options.verdict {
            Verdict::Log | Verdict::Drop => options.pods.check(TOOL),
            Verdict::Reject => Err(BadOption::NoReject(TOOL)),
        }
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::without_names(rules);
        let mut omissions = elements.omissions.clone();
        let mut egress = Vec::new();
        if kubernetes::asks_dns(&elements) {
            egress.extend(dns());
            omissions.push(kubernetes::dns_omission());
        }
        for ((family, packets), group) in elements.by_packets() {
            match allow(family, packets, &group) {
                Some(rule) => egress.push(rule),
                None => omissions.extend(kubernetes::inexpressible(&group, TOOL)),
            }
        }
        let (last, effect) = match options.verdict {
            Verdict::Log => (
                "Allow",
                "DRY RUN: what no rule allows is logged, and passes. To enforce: --verdict drop.",
            ),
            Verdict::Drop | Verdict::Reject => (
                "Deny",
                "ENFORCES: what no rule allows is logged and dropped.",
            ),
        };
        egress.extend([json!({ "action": "Log" }), json!({ "action": last })]);
        let object = json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": "NetworkPolicy",
            "metadata": kubernetes::metadata(rules, &options.pods),
            "spec": {
                "selector": selector(&options.pods),
                "types": ["Egress"],
                "egress": egress,
            },
        });
        let how = [
            "Log goes to the kernel log of the node, with Calico's iptables and nftables dataplanes.",
            "",
            "Check:        kubectl apply --dry-run=server -f calico.yaml",
            "Apply:        kubectl apply -f calico.yaml",
            "Undo:         kubectl delete -f calico.yaml",
        ];
        kubernetes::file_with(rules, effect, &how, &elements, omissions, &object)
    }
}

/// Labels are letters, digits, dots, dashes and underscores: nothing to escape.
fn selector(pods: &Pods) -> String {
    let parts: Vec<String> = pods
        .labels
        .iter()
        .map(|(key, value)| format!("{key} == '{value}'"))
        .collect();
    parts.join(" && ")
}

fn allow(family: Family, packets: Packets, group: &[&Element]) -> Option<Value> {
    let nets: Vec<String> = group.iter().map(|each| each.to.to_string()).collect();
    let version = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let mut rule = json!({
        "action": "Allow",
        "ipVersion": version,
        "destination": { "nets": nets },
    });
    match packets {
        Packets::Port { .. } => {
            let (protocol, port) = kubernetes::port(packets)?;
            rule["protocol"] = json!(protocol);
            rule["destination"]["ports"] = json!([port]);
        }
        // 0 would be any protocol.
        Packets::Protocol(Protocol(0)) => return None,
        Packets::Protocol(protocol) => rule["protocol"] = json!(protocol.0),
        Packets::Icmp(kind) => {
            rule["protocol"] = match family {
                Family::V4 => json!("ICMP"),
                Family::V6 => json!("ICMPv6"),
            };
            rule["icmp"] = json!({ "type": kind.number });
        }
    }
    Some(rule)
}

fn dns() -> [Value; 2] {
    ["UDP", "TCP"].map(|protocol| {
        json!({
            "action": "Allow",
            "protocol": protocol,
            "destination": {
                "namespaceSelector":
                    format!("kubernetes.io/metadata.name == '{DNS_NAMESPACE}'"),
                "selector": format!("k8s-app == '{DNS_LABEL}'"),
                "ports": [53],
            },
        })
    })
}
