//! Whatever workloads call themselves and talk to, no backend's output says anything but rules.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::LazyLock;

use jiff::civil::{Date, date};
use proptest::{collection::vec, prelude::*};
use regex::Regex;
use serde_json::Value;

use super::{Format, NamedRule, Options, Origin, Pods, Rule, RuleSet, Verdict};

/// What a workload might call itself, or be called.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"'\\\\\n\r\t;{}#$*@`(),. a-z/]{0,80}",
        Just("\n- uses: evil/action@v1\n".to_owned()),
        Just("x\nhttp_access allow all\n".to_owned()),
        Just("a.example\nnftset=/#/4#inet#t#s".to_owned()),
        Just("\u{2028}apiVersion: v1\u{85}".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        text(),
        "([*][.])?[a-z0-9_-]{1,12}[.]example",
        Just("API.Example.com.".to_owned()),
    ]
}

fn service() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..=65535_u16).prop_map(|port| format!("{port}/tcp")),
        (0..=65535_u16).prop_map(|port| format!("{port}/udp")),
        Just("53/udp".to_owned()),
        Just("5/dccp".to_owned()),
        Just("gre".to_owned()),
        Just("ip-0".to_owned()),
        Just("icmp/echo-request".to_owned()),
    ]
}

/// The last day of an approval, or none.
fn end() -> impl Strategy<Value = Option<Date>> {
    proptest::option::of((2026..2029_i16).prop_map(|year| date(year, 2, 28)))
}

pub(super) fn rule_set() -> impl Strategy<Value = RuleSet> {
    let rule = (any::<[u8; 4]>(), 0..=32_u8, service(), text(), end()).prop_map(
        |(address, bits, service, comment, expires)| {
            let to = ipnet::IpNet::new(address.into(), bits).unwrap();
            Rule {
                expires,
                ..Rule::new(to, service.parse().unwrap(), comment)
            }
        },
    );
    let rule6 = (any::<[u8; 16]>(), 0..=128_u8, service(), text(), end()).prop_map(
        |(address, bits, service, comment, expires)| {
            let to = ipnet::IpNet::new(address.into(), bits).unwrap();
            Rule {
                expires,
                ..Rule::new(to, service.parse().unwrap(), comment)
            }
        },
    );
    let named = (name(), service(), text(), end()).prop_map(|(name, service, comment, expires)| {
        NamedRule {
            name,
            service: service.parse().unwrap(),
            comment,
            expires,
        }
    });
    let rules = vec(prop_oneof![rule, rule6], 0..8);
    (text(), rules, vec(named, 0..8), vec(text(), 0..3)).prop_map(
        |(workload, mut rules, mut names, texts)| {
            rules.sort();
            names.sort();
            RuleSet {
                names,
                left_out: texts.clone(),
                warnings: texts,
                ..RuleSet::new(workload, Origin::Candidate, rules)
            }
        },
    )
}

fn options() -> Options {
    Options {
        pods: Pods {
            namespace: Some("shop".to_owned()),
            labels: [("app".to_owned(), "shop".to_owned())].into(),
        },
        name_sets: true,
        ..Options::new(Verdict::Drop)
    }
}

/// What stands between comments and empty lines.
fn said(text: &str) -> Vec<&str> {
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().filter(is_said).collect()
}

/// Compiled once: a hundred cases look at thousands of lines.
static PATTERNS: LazyLock<Vec<(Format, Option<Regex>)>> = LazyLock::new(|| {
    let compiled = |format| pattern(format).map(|text| Regex::new(&text).unwrap());
    Format::ALL
        .iter()
        .map(|&format| (format, compiled(format)))
        .collect()
});

const NAME: &str = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*";

/// What a line of each format may be; `None` where the whole is JSON.
fn pattern(format: Format) -> Option<String> {
    let net = r"[0-9a-f:.]+(/\d+)?";
    let comment = r#"( comment "[ !#-\[\]-~]{1,120}")?"#;
    match format {
        Format::Ipset => Some(format!(
            "^(add egress[46].n {net},[a-z]+:\\d+{comment}|(create|flush|destroy|swap) \
             egress[46][a-z0-9:,. -]*)$"
        )),
        Format::Dnsmasq => Some(format!(
            "^nftset=/{NAME}/(,?4#inet#egress_tracer#names4_[a-z0-9_]+,\
             6#inet#egress_tracer#names6_[a-z0-9_]+)+$"
        )),
        Format::Squid => Some(format!(
            r"^(acl egress_\d+ port \d+|acl egress_\d+_names dstdomain -n \.?{NAME}|acl egress_\d+_addresses dst -n {net}|http_access allow egress_\d+ egress_\d+_(names|addresses)|http_access deny all)$"
        )),
        Format::Domains => Some(format!(r"^(\*\.)?{NAME}$")),
        Format::HardenRunner => Some(format!(
            r#"^(- uses: step-security/harden-runner@v2|  with:|    egress-policy: block|    allowed-endpoints: (>|"")|      (\*\.)?{NAME}:\d+)$"#
        )),
        Format::NetworkPolicy
        | Format::Cilium
        | Format::Calico
        | Format::SandboxRuntime
        | Format::Json => None,
        // tests/rules loads these with the real tools.
        Format::Nftables
        | Format::Iptables
        | Format::Ip6tables
        | Format::IptablesIpset
        | Format::Ip6tablesIpset => Some(String::new()),
    }
}

proptest! {
    #[test]
    fn nothing_but_rules_is_said(rules in rule_set()) {
        let options = options();
        for (format, pattern) in PATTERNS.iter() {
            let made = format.backend().render(&rules, &options);
            let inert = |character: char| character == '\n' || character == '\t' || (' '..='~').contains(&character);
            let is_data = *format == Format::Json;
            prop_assert!(is_data || made.text.chars().all(inert), "{:?}", made.text);
            match pattern {
                Some(pattern) => for line in said(&made.text) {
                    prop_assert!(pattern.is_match(line), "{format:?}: {line}");
                },
                None => {
                    let value: Value = serde_json::from_str(&said(&made.text).join("\n")).unwrap();
                    prop_assert!(value.is_object());
                }
            }
            prop_assert_eq!(&format.backend().render(&rules, &options), &made);
        }
    }

    /// Each rule is said, or named among what was left out.
    #[test]
    fn nothing_is_left_out_in_silence(rules in rule_set()) {
        let options = options();
        for format in [Format::NetworkPolicy, Format::Cilium, Format::Calico, Format::Squid, Format::Domains, Format::HardenRunner, Format::SandboxRuntime, Format::Dnsmasq] {
            let made = format.backend().render(&rules, &options);
            for rule in &rules.rules {
                let to = super::elements::canonical(rule.to).to_string();
                let written = super::text::line(&rule.to.to_string());
                let is_said = said(&made.text).iter().any(|line| line.contains(&to))
                    || made.omissions.iter().any(|line| line.contains(&to) || line.contains(&written));
                // Squid joins networks that touch.
                prop_assert!(is_said || format == Format::Squid, "{format:?} {to} {}", rule.service);
            }
            for rule in &rules.names {
                let name = super::text::line(&rule.name.trim_end_matches('.').to_ascii_lowercase());
                let name = name.trim_start_matches("*.");
                let is_said = made.text.to_ascii_lowercase().contains(name)
                    || made.omissions.iter().any(|line| line.to_ascii_lowercase().contains(name));
                prop_assert!(is_said, "{format:?} {name}: {:?}", made.omissions);
            }
        }
    }
}
