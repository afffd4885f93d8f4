//! The tools accept the output; applying twice and undoing leave things as they were.

use std::{fs, path::PathBuf};

use tracer_userspace::render::{Format, MAX_CHAIN, MAX_TABLE, Options, RuleSet, Scope, Verdict};

use crate::{
    netns::{Netns, has, ready},
    render, rules,
};

const VERDICTS: [Verdict; 3] = [Verdict::Log, Verdict::Drop, Verdict::Reject];

/// Every shape of element, both families, overlaps included.
pub(crate) fn every_shape() -> RuleSet {
    rules(&[
        ("0.0.0.0/0", "123/udp"),
        ("198.51.100.0/24", "443/tcp"),
        ("198.51.100.0/25", "443/tcp"),
        ("198.51.100.0/24", "gre"),
        ("198.51.100.0/24", "icmp/echo-request"),
        ("198.51.100.7/32", "443/tcp"),
        ("198.51.100.7/32", "53/udp"),
        ("198.51.100.7/32", "5000/sctp"),
        ("198.51.100.7/32", "5000/dccp"),
        ("198.51.100.7/32", "5000/udplite"),
        ("198.51.100.7/32", "gre"),
        ("198.51.100.7/32", "igmp"),
        ("198.51.100.7/32", "ip-255"),
        ("198.51.100.7/32", "icmp/echo-request"),
        ("::/0", "123/udp"),
        ("2001:db8::/32", "443/tcp"),
        ("2001:db8::/33", "443/tcp"),
        ("2001:db8::/32", "esp"),
        ("2001:db8::/32", "icmpv6/echo-request"),
        ("2001:db8::7/128", "443/tcp"),
        ("2001:db8::7/128", "esp"),
        ("2001:db8::7/128", "icmpv6"),
        ("2001:db8::7/128", "icmpv6/mld-listener-report"),
    ])
}

fn scopes() -> Vec<Scope> {
    let sources = ["203.0.113.9/32", "203.0.113.128/25", "2001:db8:1::9/128"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    vec![
        Scope::Namespace,
        Scope::Forward {
            sources: sources.clone(),
            interface: Some("br-0a1b2c3d".to_owned()),
        },
        Scope::Forward {
            sources,
            interface: None,
        },
        Scope::Forward {
            sources: Vec::new(),
            interface: Some("docker0".to_owned()),
        },
    ]
}

/// The lines of the header behind `label`, as a person would copy them.
fn commands(text: &str, label: &str) -> Vec<String> {
    let inside = r#"nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n "#;
    text.lines()
        .map_while(|line| line.strip_prefix('#'))
        .skip_while(|line| !line.starts_with(&format!(" {label}:")))
        .enumerate()
        .map(|(at, line)| {
            (
                at,
                line.get(1..14).unwrap_or(""),
                line.get(14..).unwrap_or(""),
            )
        })
        .take_while(|(at, label, _)| *at == 0 || label.trim().is_empty())
        .map(|(_, _, command)| command.replace(inside, ""))
        .filter(|command| !command.is_empty())
        .collect()
}

/// Does what the header says at `label`, with the output in a file of the documented name.
pub(crate) fn follow(netns: &Netns, format: Format, text: &str, label: &str, legacy: bool) {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join(format.file_name());
    fs::write(&file, text).unwrap();
    let steps = commands(text, label);
    assert!(!steps.is_empty(), "no {label} in\n{text}");
    for mut step in steps {
        if legacy {
            step = step.replacen("tables", "tables-legacy", 1);
        }
        netns.must(&format!("cd {} && {step}", folder.path().display()));
    }
}

/// iptables in both its forms; the one without its own binary is left out.
fn forms() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|legacy| !legacy || has("iptables-legacy-restore"))
}

#[test]
fn nft_loads_every_shape_twice_and_undoes_it() {
    if !ready("nft_loads_every_shape_twice_and_undoes_it") {
        return;
    }
    let netns = Netns::new();
    netns.must("nft add table inet other; nft add chain inet other c");
    let before = netns.must("nft list ruleset");
    for scope in scopes() {
        for verdict in VERDICTS {
            let made = render(Format::Nftables, &every_shape(), verdict, scope.clone());
            assert_eq!(made.omissions, [""; 0]);
            follow(&netns, Format::Nftables, &made.text, "Check", false);
            assert_eq!(netns.must("nft list ruleset"), before);
            follow(&netns, Format::Nftables, &made.text, "Apply", false);
            let once = netns.must("nft list ruleset");
            assert_ne!(once, before);
            follow(&netns, Format::Nftables, &made.text, "Apply again", false);
            assert_eq!(sorted(&netns.must("nft list ruleset")), sorted(&once));
            follow(&netns, Format::Nftables, &made.text, "Undo", false);
            assert_eq!(netns.must("nft list ruleset"), before);
        }
    }
}

/// nft lists the elements of a hash set in any order.
fn sorted(listing: &str) -> Vec<&str> {
    let trim = |line: &'_ str| line.find("elements = { ").map_or(0, |at| at + 13);
    let mut lines: Vec<&str> = listing
        .lines()
        .map(|line| line[trim(line)..].trim().trim_end_matches([',', '}', ' ']))
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn names_and_sources_at_their_limits_load() {
    if !ready("names_and_sources_at_their_limits_load") {
        return;
    }
    let netns = Netns::new();
    let options = Options {
        table: format!("t-_{}", "9".repeat(MAX_TABLE - 3)),
        chain: format!("c-_{}", "9".repeat(MAX_CHAIN - 3)),
        scope: Scope::Forward {
            sources: ["0.0.0.0/0", "::/0"]
                .map(|net| net.parse().unwrap())
                .to_vec(),
            interface: Some("a_b.c-d@e123456".to_owned()),
        },
        ..Options::new(Verdict::Drop)
    };
    options.check().unwrap();
    for (format, load) in [
        (Format::Nftables, "nft -f -"),
        (Format::Iptables, "iptables-restore --noflush"),
        (Format::Ip6tables, "ip6tables-restore --noflush"),
    ] {
        netns.must_with(
            load,
            &format.backend().render(&every_shape(), &options).text,
        );
    }
}

#[test]
fn nft_keeps_every_element() {
    if !ready("nft_keeps_every_element") {
        return;
    }
    let netns = Netns::new();
    let made = render(
        Format::Nftables,
        &every_shape(),
        Verdict::Drop,
        Scope::Namespace,
    );
    netns.must_with("nft -f -", &made.text);
    let listed = netns.must("nft list ruleset");
    // All but the two networks that lie in others.
    let elements = listed.matches(" for a test\"").count();
    assert_eq!(elements, every_shape().rules.len() - 2, "{listed}");
}

#[test]
fn iptables_applies_again_and_undoes_it() {
    if !ready("iptables_applies_again_and_undoes_it") {
        return;
    }
    for legacy in forms() {
        for (format, tool) in [
            (Format::Iptables, "iptables"),
            (Format::Ip6tables, "ip6tables"),
        ] {
            let tool = if legacy {
                format!("{tool}-legacy")
            } else {
                tool.to_owned()
            };
            iptables_cycle(format, &tool, legacy);
        }
    }
}

fn iptables_cycle(format: Format, tool: &str, legacy: bool) {
    let netns = Netns::new();
    netns.must(&format!(
        "{tool} -N DOCKER-USER && {tool} -A FORWARD -j DOCKER-USER && {tool} -A OUTPUT -p tcp -j ACCEPT"
    ));
    let state = || -> String {
        let saved = netns.must(&format!("{tool}-save -t filter"));
        saved
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let before = state();
    for scope in scopes() {
        for verdict in VERDICTS {
            let made = render(format, &every_shape(), verdict, scope.clone());
            assert_eq!(made.omissions, [""; 0]);
            follow(&netns, format, &made.text, "Check", legacy);
            assert_eq!(state(), before);
            follow(&netns, format, &made.text, "Apply", legacy);
            let once = state();
            assert_ne!(once, before);
            follow(&netns, format, &made.text, "Apply again", legacy);
            assert_eq!(state(), once);
            follow(&netns, format, &made.text, "Undo", legacy);
            assert_eq!(state(), before);
        }
    }
}

#[test]
fn iptables_splits_the_families() {
    if !ready("iptables_splits_the_families") {
        return;
    }
    for (format, tool, own, others) in [
        (Format::Iptables, "iptables", 14, 9),
        (Format::Ip6tables, "ip6tables", 9, 14),
    ] {
        let netns = Netns::new();
        let made = render(format, &every_shape(), Verdict::Drop, Scope::Namespace);
        netns.must_with(&format!("{tool}-restore --noflush"), &made.text);
        let listed = netns.must(&format!("{tool} -S egress"));
        assert_eq!(listed.matches(" for a test\"").count(), own, "{listed}");
        assert!(
            made.text.contains(&format!(": {others}. Without")),
            "{}",
            made.text
        );
    }
}
