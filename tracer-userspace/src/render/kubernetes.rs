//! Kubernetes NetworkPolicy, and what the policies of Cilium and Calico share with it.
//!
//! The body is JSON, which is YAML as well: nothing in it can be read as anything but a string.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Backend, BadOption, Options, Pods, Rendered, RuleSet, Verdict,
    elements::{Element, Elements, Packets},
    header, text,
};
use crate::{harmless, record::Protocol};

const TOOL: &str = "a NetworkPolicy";
/// How many bytes of an object's name come from the workload: it fits a label, hash included.
const MAX_NAME: usize = 40;
/// What the cluster's DNS is recognised by, in every common distribution.
pub(super) const DNS_NAMESPACE: &str = "kube-system";
pub(super) const DNS_LABEL: &str = "kube-dns";

/// Writes a `networking.k8s.io/v1` object.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkPolicy;

impl Backend for NetworkPolicy {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        check_drops(options, TOOL)
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::without_names(rules);
        let mut omissions = elements.omissions.clone();
        let mut egress = Vec::new();
        if asks_dns(&elements) {
            egress.push(dns());
            omissions.push(dns_omission());
        }
        for ((_, packets), group) in elements.by_packets() {
            match port(packets) {
                Some((protocol, port)) => egress.push(json!({
                    "to": group.iter().map(|each| block(each)).collect::<Vec<_>>(),
                    "ports": [{ "protocol": protocol, "port": port }],
                })),
                None => omissions.extend(inexpressible(&group, TOOL)),
            }
        }
        let object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(rules, &options.pods),
            "spec": {
                "podSelector": { "matchLabels": options.pods.labels },
                "policyTypes": ["Egress"],
                "egress": egress,
            },
        });
        let how = [
            "Needs a network plugin that enforces policies; without one it does nothing. Addresses",
            "inside the cluster are matched after a service's translation, if at all.",
            "",
            "Check:        kubectl apply --dry-run=server -f networkpolicy.yaml",
            "Apply:        kubectl apply -f networkpolicy.yaml",
            "Undo:         kubectl delete -f networkpolicy.yaml",
        ];
        file(rules, &how, &elements, omissions, &object)
    }
}

/// Whether options suit a policy that drops and cannot log.
pub(super) fn check_drops(options: &Options, tool: &'static str) -> Result<(), BadOption> {
    options.check_no_scope(tool)?;
    match options.verdict {
        Verdict::Log => return Err(BadOption::NoDryRun(tool)),
        Verdict::Reject => return Err(BadOption::NoReject(tool)),
        Verdict::Drop => {}
    }
    options.pods.check(tool)
}

/// The header and the object.
pub(super) fn file(
    rules: &RuleSet,
    how: &[&str],
    elements: &Elements,
    omissions: Vec<String>,
    object: &Value,
) -> Rendered {
    let effect = "ENFORCES: the selected pods reach nothing else, unless another policy allows it.";
    file_with(rules, effect, how, elements, omissions, object)
}

/// The same, with other words about what happens to everything else.
pub(super) fn file_with(
    rules: &RuleSet,
    effect: &str,
    how: &[&str],
    elements: &Elements,
    omissions: Vec<String>,
    object: &Value,
) -> Rendered {
    match harmless::pretty_json(object) {
        Ok(body) => Rendered {
            text: header::brief(rules, effect, how, &omissions)
                + &header::reasons(&elements.list)
                + &body
                + "\n",
            omissions,
        },
        Err(error) => Rendered {
            text: String::new(),
            omissions: vec![error.to_string()],
        },
    }
}

/// Name, namespace, and the workload as an annotation.
pub(super) fn metadata(rules: &RuleSet, pods: &Pods) -> Value {
    let mut metadata = json!({
        "name": object_name(&rules.workload),
        "annotations": {
            "egress-tracer/workload": text::line(&rules.workload),
            "egress-tracer/status": header::reviewed(rules.origin),
        },
    });
    if let Some(namespace) = &pods.namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

/// A name that Kubernetes takes. Two workloads never get one name.
fn object_name(workload: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = workload.len() <= MAX_NAME
        && workload.bytes().all(plain)
        && !workload.is_empty()
        && !workload.ends_with('-');
    if fits {
        return format!("egress-tracer-{workload}");
    }
    let readable: String = workload
        .bytes()
        .take(MAX_NAME - 9)
        .map(|byte| byte.to_ascii_lowercase())
        .map(|byte| if plain(byte) { char::from(byte) } else { '-' })
        .collect();
    let digest = Sha256::digest(workload.as_bytes());
    let hash: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("egress-tracer-{readable}-{hash}")
}

/// Protocol and port as Kubernetes writes them. Port 0 stands for any port in some plugins.
pub(super) fn port(packets: Packets) -> Option<(&'static str, u16)> {
    let Packets::Port { protocol, port } = packets else {
        return None;
    };
    let name = [
        (Protocol::TCP, "TCP"),
        (Protocol::UDP, "UDP"),
        (Protocol::SCTP, "SCTP"),
    ]
    .into_iter()
    .find_map(|(known, name)| (known == protocol).then_some(name))?;
    (port != 0).then_some((name, port))
}

/// One omission for each of a group that cannot be said.
pub(super) fn inexpressible(group: &[&Element], tool: &str) -> Vec<String> {
    let line = |element: &&Element| {
        let (to, why) = (element.to, "knows ports of TCP, UDP and SCTP only");
        match element.packets {
            Packets::Port { protocol, port } => format!("{to} {port}/{protocol}: {tool} {why}"),
            Packets::Protocol(protocol) => format!("{to} {protocol}: {tool} {why}"),
            Packets::Icmp(kind) => format!("{to} icmp {}: {tool} {why}", kind.name),
        }
    };
    group.iter().map(line).collect()
}

/// Whether names were asked for: pods ask the cluster's DNS, by a service address that policies
/// do not see.
pub(super) fn asks_dns(elements: &Elements) -> bool {
    elements.list.iter().any(|each| match each.packets {
        Packets::Port { protocol, port } => {
            port == 53 && [Protocol::TCP, Protocol::UDP].contains(&protocol)
        }
        Packets::Protocol(_) | Packets::Icmp(_) => false,
    })
}

pub(super) fn dns_omission() -> String {
    format!(
        "53/udp, 53/tcp: also allowed to the pods {DNS_LABEL} in {DNS_NAMESPACE}, which policies \
         do not see by the address that was asked"
    )
}

fn dns() -> Value {
    json!({
        "to": [{
            "namespaceSelector": {
                "matchLabels": { "kubernetes.io/metadata.name": DNS_NAMESPACE },
            },
            "podSelector": { "matchLabels": { "k8s-app": DNS_LABEL } },
        }],
        "ports": [
            { "protocol": "UDP", "port": 53 },
            { "protocol": "TCP", "port": 53 },
        ],
    })
}

fn block(element: &Element) -> Value {
    json!({ "ipBlock": { "cidr": element.to.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_name_is_valid_and_the_workloads_alone() {
        assert_eq!(object_name("shop-agent"), "egress-tracer-shop-agent");
        let names = ["shop_agent", "Shop-agent", "shop.agent", "", "é", "a-"].map(object_name);
        for name in &names {
            assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
        }
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(object_name(&"w".repeat(300)).len() <= 63);
    }
}
