//! Kubernetes objects, each through its published type: NetworkPolicy as the API's description has it,
//! those of Cilium (`cilium.io/v2`) and Calico as their custom resource definitions have them.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kcr_cilium_io::v2::ciliumnetworkpolicies::CiliumNetworkPolicy;
use kcr_crd_projectcalico_org::v1::networkpolicies::NetworkPolicySpec as CalicoSpec;
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracer_userspace::render::{
    BadOption, Format, NamedRule, Options, Pods, Rendered, RuleSet, Verdict,
};

use crate::{
    hostile::{config, rule_set},
    rules,
};

fn options(verdict: Verdict) -> Options {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Options {
        pods: Pods {
            namespace: Some("shop".to_owned()),
            labels: [
                label("app.kubernetes.io/name", "shop-agent"),
                label("on", "yes"),
            ]
            .into(),
        },
        ..Options::new(verdict)
    }
}

fn object(made: &Rendered) -> Value {
    let body: Vec<&str> = made
        .text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    serde_json::from_str(&body.join("\n")).unwrap()
}

fn made(format: Format, rules: &RuleSet, verdict: Verdict) -> (Rendered, Value) {
    let made = format.backend().render(rules, &options(verdict));
    let object = object(&made);
    (made, object)
}

fn mixed() -> RuleSet {
    let names = [("api.example", "443/tcp"), ("*.cdn.example", "443/tcp")];
    RuleSet {
        names: names
            .map(|(name, service)| NamedRule {
                name: name.to_owned(),
                service: service.parse().unwrap(),
                comment: String::new(),
                expires: None,
            })
            .to_vec(),
        ..rules(&[
            ("10.96.0.10/32", "53/udp"),
            ("198.51.100.0/24", "443/tcp"),
            ("198.51.100.7/32", "443/tcp"),
            ("198.51.100.7/32", "gre"),
            ("198.51.100.7/32", "icmp/echo-request"),
            ("2001:db8::7/128", "443/tcp"),
            ("2001:db8::7/128", "icmpv6/echo-request"),
        ])
    }
}

/// Fails on a key that the published type does not have: it would be lost on the way through.
fn assert_is<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&typed).unwrap(), object);
    typed
}

#[test]
fn a_network_policy_is_one() {
    let (rendered, object) = made(Format::NetworkPolicy, &mixed(), Verdict::Drop);
    let typed = assert_is::<NetworkPolicy>(&object);
    let spec = typed.spec.unwrap();
    assert_eq!(spec.policy_types.unwrap(), ["Egress"]);
    assert_eq!(typed.metadata.namespace.as_deref(), Some("shop"));
    let https = json!({
        "to": [
            { "ipBlock": { "cidr": "198.51.100.0/24" } },
            { "ipBlock": { "cidr": "198.51.100.7/32" } },
        ],
        "ports": [{ "protocol": "TCP", "port": 443 }],
    });
    let egress = object["spec"]["egress"].as_array().unwrap();
    assert!(egress.contains(&https), "{egress:#?}");
    // DNS, then UDP 53, TCP over IPv4 and over IPv6.
    assert_eq!(egress.len(), 4);
    for left_out in ["gre", "echo-request", "api.example", "kube-dns"] {
        let is_said = |text: &str| text.contains(left_out);
        assert!(
            rendered.omissions.iter().any(|line| is_said(line)),
            "{left_out}"
        );
        let comments = rendered.text.lines().filter(|line| line.starts_with('#'));
        assert!(comments.into_iter().any(is_said), "{left_out}");
    }
}

#[test]
fn a_network_policy_is_one_whatever_it_is_about() {
    proptest!(config(), |(rules in rule_set())| {
        assert_is::<NetworkPolicy>(&made(Format::NetworkPolicy, &rules, Verdict::Drop).1);
    });
}

#[test]
fn ciliums_and_calicos_are_theirs_whatever_they_are_about() {
    assert_is::<CiliumNetworkPolicy>(&made(Format::Cilium, &mixed(), Verdict::Drop).1);
    // Its API server, which writes `projectcalico.org/v3`, stores the same under another version.
    assert_is::<CalicoSpec>(&made(Format::Calico, &mixed(), Verdict::Log).1["spec"]);
    proptest!(config(), |(rules in rule_set())| {
        assert_is::<CiliumNetworkPolicy>(&made(Format::Cilium, &rules, Verdict::Drop).1);
        for verdict in [Verdict::Drop, Verdict::Log] {
            assert_is::<CalicoSpec>(&made(Format::Calico, &rules, verdict).1["spec"]);
        }
    });
}

#[test]
fn a_policy_that_allows_nothing_denies_everything() {
    let (_, object) = made(Format::NetworkPolicy, &rules(&[]), Verdict::Drop);
    assert_eq!(object["spec"]["egress"], json!([]));
    let (_, object) = made(Format::Cilium, &rules(&[]), Verdict::Drop);
    // An empty rule selects nothing, but its being there makes deny the default.
    assert_eq!(object["spec"]["egress"], json!([{}]));
    let (_, object) = made(Format::Calico, &rules(&[]), Verdict::Drop);
    assert_eq!(
        object["spec"]["egress"],
        json!([{ "action": "Log" }, { "action": "Deny" }])
    );
}

#[test]
fn cilium_takes_names_with_the_dns_that_they_need() {
    let (rendered, object) = made(Format::Cilium, &mixed(), Verdict::Drop);
    assert_eq!(object["apiVersion"], "cilium.io/v2");
    let names = json!([{ "matchName": "api.example" }, { "matchPattern": "*.cdn.example" }]);
    let ports =
        |port: &str, protocol: &str| json!([{ "ports": [{ "port": port, "protocol": protocol }] }]);
    let egress = object["spec"]["egress"].as_array().unwrap();
    assert_eq!(egress[0]["toPorts"][0]["rules"]["dns"], names);
    let https = json!({ "toFQDNs": names, "toPorts": ports("443", "TCP") });
    assert_eq!(egress[1], https);
    let ping = json!({
        "toCIDRSet": [{ "cidr": "2001:db8::7/128" }],
        "icmps": [{ "fields": [{ "family": "IPv6", "type": 128 }] }],
    });
    assert!(egress.contains(&ping), "{egress:#?}");
    assert!(rendered.omissions.iter().any(|line| line.contains("gre")));
    assert!(
        rendered
            .omissions
            .iter()
            .any(|line| line.contains("one label"))
    );
}

#[test]
fn calico_logs_before_it_decides() {
    for (verdict, last) in [(Verdict::Log, "Allow"), (Verdict::Drop, "Deny")] {
        let (_, object) = made(Format::Calico, &mixed(), verdict);
        assert_eq!(object["apiVersion"], "projectcalico.org/v3");
        assert_eq!(
            object["spec"]["selector"],
            "app.kubernetes.io/name == 'shop-agent' && on == 'yes'"
        );
        let egress = object["spec"]["egress"].as_array().unwrap();
        let gre = json!({
            "action": "Allow",
            "ipVersion": 4,
            "protocol": 47,
            "destination": { "nets": ["198.51.100.7/32"] },
        });
        assert!(egress.contains(&gre), "{egress:#?}");
        let end = [json!({ "action": "Log" }), json!({ "action": last })];
        assert_eq!(egress[egress.len() - 2..], end);
    }
}

#[test]
fn what_cannot_log_or_selects_everybody_is_refused() {
    let check = |format: Format, options: &Options| format.backend().check(options);
    for format in [Format::NetworkPolicy, Format::Cilium] {
        for verdict in [Verdict::Log, Verdict::Reject] {
            assert!(check(format, &options(verdict)).is_err());
            let made = format.backend().render(&mixed(), &options(verdict));
            assert!(made.text.lines().all(|line| line.starts_with('#')));
        }
        let everybody = Options::new(Verdict::Drop);
        let refused = check(format, &everybody);
        assert!(matches!(refused, Err(BadOption::NoPods(_))), "{refused:?}");
        assert_eq!(check(format, &options(Verdict::Drop)), Ok(()));
    }
}
