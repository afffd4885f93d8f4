//! The other formats, each read by the tool it is for.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use proptest::prelude::*;
use tracer_userspace::render::{Format, NamedRule, Options, RuleSet, Scope, Verdict};

use crate::{
    hostile::{config, rule_set},
    load::{every_shape, follow},
    netns::{Netns, has, ready},
    render, rules,
};

/// Rules by address and by name.
fn with_names() -> RuleSet {
    let names = [
        ("*.cdn.example", "443/tcp"),
        ("api.example", "443/tcp"),
        ("api.example", "8080/tcp"),
        ("cdn.example", "443/tcp"),
        ("deep.cdn.example", "443/tcp"),
        ("ntp.example", "123/udp"),
        ("tunnel.example", "gre"),
        ("xn--bcher-kva.example", "443/tcp"),
    ];
    RuleSet {
        names: names
            .map(|(name, service)| NamedRule {
                name: name.to_owned(),
                service: service.parse().unwrap(),
                comment: "for a test".to_owned(),
                expires: None,
            })
            .to_vec(),
        ..every_shape()
    }
}

fn installed(tool: &str, test: &str) -> bool {
    if has(tool) {
        return true;
    }
    eprintln!("SKIPPED {test}: not installed: {tool}");
    false
}

/// What is not printable is printed as it is by no tool: show it.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn ipset_and_its_rules_load_twice_and_are_undone() {
    let name = "ipset_and_its_rules_load_twice_and_are_undone";
    if !ready(name) || !installed("ipset", name) {
        return;
    }
    let netns = Netns::new();
    let set = |rules: &RuleSet| render(Format::Ipset, rules, Verdict::Drop, Scope::Namespace).text;
    for rules in [every_shape(), rules(&[("198.51.100.9/32", "1/tcp")])] {
        let sets = set(&rules);
        netns.must_with("ipset restore", &sets);
        netns.must_with("ipset restore", &sets);
        let listed = netns.must("ipset list -name");
        assert_eq!(listed.lines().collect::<Vec<_>>(), ["egress4", "egress6"]);
        for label in ["Check", "Apply", "Apply again", "Undo"] {
            for format in [Format::IptablesIpset, Format::Ip6tablesIpset] {
                let made = render(format, &rules, Verdict::Drop, Scope::Namespace);
                follow_beside(&netns, format, &made.text, label, &sets);
            }
        }
        assert_eq!(netns.must("ipset list -name"), "");
    }
}

/// As [`follow`], with the sets in the file that the header names.
fn follow_beside(netns: &Netns, format: Format, text: &str, label: &str, sets: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.ipset");
    fs::write(&file, sets).unwrap();
    let text = text.replace("-file rules.ipset", &format!("-file {}", file.display()));
    follow(netns, format, &text, label, false);
}

#[test]
fn ipset_holds_every_element() {
    let name = "ipset_holds_every_element";
    if !ready(name) || !installed("ipset", name) {
        return;
    }
    let netns = Netns::new();
    let made = render(
        Format::Ipset,
        &every_shape(),
        Verdict::Drop,
        Scope::Namespace,
    );
    netns.must_with("ipset restore", &made.text);
    for (set, element) in [
        ("egress4", "198.51.100.77,tcp:443"),
        ("egress4", "203.0.113.1,udp:123"),
        ("egress4", "198.51.100.7,sctp:5000"),
        ("egress4", "198.51.100.7,udplite:5000"),
        ("egress6", "2001:db8::99,tcp:443"),
        ("egress6", "2001:db9::1,udp:123"),
    ] {
        netns.must(&format!("ipset test {set} {element}"));
    }
    assert!(!netns.shell("ipset test egress4 198.51.100.7,tcp:53").ok);
}

#[test]
fn ipset_always_loads() {
    let name = "ipset_always_loads";
    if !ready(name) || !installed("ipset", name) {
        return;
    }
    let netns = Netns::new();
    proptest!(config(), |(rules in rule_set())| {
        for (format, load) in [
            (Format::Ipset, "ipset restore"),
            (Format::IptablesIpset, "iptables-restore --noflush --test"),
            (Format::Ip6tablesIpset, "ip6tables-restore --noflush --test"),
        ] {
            let made = render(format, &rules, Verdict::Reject, Scope::Namespace);
            let said = netns.shell_with(load, &made.text);
            prop_assert!(said.ok, "{}\n{}", said.err, made.text);
            prop_assert_eq!(said.err, "");
        }
    });
}

fn dnsmasq(folder: &Path, text: &str) -> Output {
    let file = folder.join("dnsmasq.conf");
    fs::write(&file, text).unwrap();
    Command::new("dnsmasq")
        .arg("--test")
        .arg(format!("--conf-file={}", file.display()))
        .output()
        .unwrap()
}

fn with_sets(verdict: Verdict) -> Options {
    Options {
        name_sets: true,
        ..Options::new(verdict)
    }
}

#[test]
fn dnsmasq_reads_what_nft_declares() {
    let name = "dnsmasq_reads_what_nft_declares";
    if !ready(name) || !installed("dnsmasq", name) {
        return;
    }
    let netns = Netns::new();
    let folder = tempfile::tempdir().unwrap();
    let options = with_sets(Verdict::Drop);
    let made = Format::Dnsmasq.backend().render(&with_names(), &options);
    let output = dnsmasq(folder.path(), &made.text);
    assert!(output.status.success(), "{}", said(&output));
    let table = Format::Nftables.backend().render(&with_names(), &options);
    netns.must_with("nft -f -", &table.text);
    let lines = made.text.lines().filter(|line| line.starts_with("nftset="));
    let words = |line: &'_ str| -> Vec<String> {
        let words = line
            .split(['#', ','])
            .filter(|word| word.starts_with("names"));
        words.map(str::to_owned).collect()
    };
    let sets: BTreeSet<String> = lines.clone().flat_map(words).collect();
    assert_eq!(sets.len(), 16);
    // dnsmasq looks at the longest match alone: below a wildcard, its sets are named again.
    let below: Vec<&str> = lines
        .filter(|line| line.starts_with("nftset=/deep.cdn.example/"))
        .collect();
    assert_eq!(below.len(), 1);
    assert_eq!(words(below[0]).len(), 6, "{below:?}");
    for set in sets {
        let address = match set.starts_with("names4") {
            true => "198.51.100.1",
            false => "2001:db8::1",
        };
        netns.must(&format!(
            "nft add element inet egress_tracer {set} '{{ {address} }}'"
        ));
    }
}

#[test]
fn dnsmasq_always_reads() {
    let name = "dnsmasq_always_reads";
    if !installed("dnsmasq", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    proptest!(config(), |(rules in rule_set())| {
        let made = Format::Dnsmasq.backend().render(&rules, &with_sets(Verdict::Drop));
        let output = dnsmasq(folder.path(), &made.text);
        prop_assert!(output.status.success(), "{}\n{}", said(&output), made.text);
    });
}

/// Squid's own verdict on the file; a warning is one that a person would have to look into.
fn squid(folder: &Path, text: &str) -> (bool, String) {
    let file = folder.join("squid.conf");
    fs::write(&file, format!("http_port 127.0.0.1:3128\n{text}")).unwrap();
    let output = Command::new("squid")
        .args(["-k", "parse", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    let text = said(&output);
    let complains = |line: &&str| {
        ["ERROR", "WARNING", "FATAL"]
            .iter()
            .any(|word| line.contains(word))
            // About the machine, not about the file.
            && !line.contains("Could not determine this machines public hostname")
            && !line.contains("no_suid")
    };
    let complaints: Vec<&str> = text.lines().filter(complains).collect();
    (output.status.success(), complaints.join("\n"))
}

#[test]
fn squid_reads_every_shape() {
    let name = "squid_reads_every_shape";
    if !installed("squid", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let everything = rules(&[("0.0.0.0/0", "443/tcp"), ("::/0", "443/tcp")]);
    for rules in [with_names(), everything] {
        let made = render(Format::Squid, &rules, Verdict::Drop, Scope::Namespace);
        assert_eq!(squid(folder.path(), &made.text), (true, String::new()));
    }
}

#[test]
fn squid_always_reads() {
    let name = "squid_always_reads";
    if !installed("squid", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    proptest!(config(), |(rules in rule_set())| {
        let made = render(Format::Squid, &rules, Verdict::Drop, Scope::Namespace);
        prop_assert_eq!(squid(folder.path(), &made.text), (true, String::new()), "{}", made.text);
    });
}
