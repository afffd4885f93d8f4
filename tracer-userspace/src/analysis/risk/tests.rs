//! Each finding where it holds and where it does not.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::*;
use crate::{
    analysis::summary::Summaries,
    policy::{
        infer::evidence,
        observe::{Destination, Observations},
        seen::Figures,
    },
    record::{Channel, Outcome},
};

fn entry(to: &str, ports: &[&str]) -> Entry {
    let ports = ports.iter().map(|port| port.parse().unwrap()).collect();
    Entry::candidate(to.parse().unwrap(), ports)
}

fn found(to: &str, port: &str, seen: Option<&Summary>) -> Vec<String> {
    let entry = entry(to, &[port]);
    let subject = Subject {
        seen,
        ..Subject::of(&entry)
    };
    let all = findings(&subject);
    all.iter().map(|each| each.id.to_string()).collect()
}

#[test]
fn each_destination_finding_holds_where_it_should() {
    for (id, to, port) in [
        ("metadata-service", "169.254.169.254", "80/tcp"),
        ("metadata-service", "169.254.0.0/16", "80/tcp"),
        ("metadata-service", "fd00:ec2::254", "80/tcp"),
        ("metadata-service", "metadata.google.internal", "80/tcp"),
        ("wildcard", "*.example.com", "443/tcp"),
        ("broad", "198.51.0.0/23", "443/tcp"),
        ("broad", "2001:db8::/55", "443/tcp"),
        ("tunnel-service", "x.ngrok.io", "443/tcp"),
        ("paste-service", "pastebin.com", "443/tcp"),
        ("file-drop", "transfer.sh", "443/tcp"),
        ("webhook-service", "webhook.site", "443/tcp"),
        ("telemetry", "o1.ingest.sentry.io", "443/tcp"),
        ("public-resolver", "8.8.8.8", "443/tcp"),
        ("public-resolver", "1.1.1.0/24", "53/udp"),
        ("public-resolver", "dns.google", "443/tcp"),
        ("encrypted-dns", "192.0.2.1", "853/tcp"),
        ("cleartext", "192.0.2.1", "80/tcp"),
        ("cleartext", "192.0.2.1", "23/tcp"),
        ("unusual-port", "192.0.2.1", "4444/tcp"),
        ("odd-protocol", "192.0.2.1", "gre"),
        ("odd-protocol", "192.0.2.1", "5000/sctp"),
        ("private-address", "10.0.0.1", "443/tcp"),
        ("private-address", "100.64.1.0/24", "443/tcp"),
        ("private-address", "fe80::1", "443/tcp"),
        ("shared-front", "104.16.1.1", "443/tcp"),
        ("shared-front", "*.cloudfront.net", "443/tcp"),
        ("literal-address", "192.0.2.1", "443/tcp"),
        (
            "high-entropy-name",
            "d3k9x0qv7z1mw8bt5hj2.example.com",
            "443/tcp",
        ),
    ] {
        assert!(
            found(to, port, None).contains(&id.to_owned()),
            "{id} {to} {port}"
        );
    }
}

#[test]
fn an_ordinary_name_has_no_finding() {
    assert_eq!(found("api.openai.com", "443/tcp", None), [""; 0]);
    assert_eq!(found("198.51.100.0/24", "443/tcp", None), [""; 0]);
    assert_eq!(found("2001:db8::/56", "443/udp", None), [""; 0]);
    assert_eq!(found("192.0.2.1", "53/udp", None), ["literal-address"]);
    assert_eq!(found("192.0.2.1", "icmp", None), ["literal-address"]);
}

#[test]
fn each_finding_from_figures_holds_where_it_should() {
    let quiet = Summary {
        runs: 2,
        runs_recorded: 2,
        ..Summary::default()
    };
    let ids = |seen: &Summary| found("api.example.com", "443/tcp", Some(seen));
    assert_eq!(ids(&quiet), [""; 0]);
    for (summary, expected) in [
        (
            Summary {
                writable_path: true,
                ..quiet.clone()
            },
            Some("writable-path"),
        ),
        (
            Summary {
                bytes_sent: 2_000_000,
                ..quiet.clone()
            },
            Some("sends-more"),
        ),
        (
            Summary {
                bytes_sent: 2_000_000,
                bytes_received: 300_000,
                ..quiet.clone()
            },
            None,
        ),
        (
            Summary {
                bytes_sent: 2_000,
                ..quiet.clone()
            },
            None,
        ),
        (
            Summary {
                answered: Some(false),
                ..quiet.clone()
            },
            Some("never-answered"),
        ),
        (
            Summary {
                answered: Some(true),
                ..quiet.clone()
            },
            None,
        ),
        (
            Summary {
                runs: 1,
                ..quiet.clone()
            },
            Some("one-run"),
        ),
        (
            Summary {
                runs: 1,
                runs_recorded: 1,
                ..quiet.clone()
            },
            None,
        ),
        (
            Summary {
                incomplete: true,
                ..quiet.clone()
            },
            Some("incomplete"),
        ),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(ids(&summary), expected, "{summary:?}");
    }
}

#[test]
fn tools_that_an_entry_is_not_for_are_told_and_flows_outside_of_any() {
    let ids = |tools: Option<&[&str]>, seen: &Summary| {
        let tools = tools.map(|tools| tools.iter().map(|&tool| tool.to_owned()).collect());
        let entry = Entry {
            tools,
            ..entry("api.example.com", &["443/tcp"])
        };
        let subject = Subject {
            seen: Some(seen),
            ..Subject::of(&entry)
        };
        let all = findings(&subject);
        all.iter()
            .map(|each| each.id.to_string())
            .collect::<Vec<_>>()
    };
    let by = |tools: &[&str], outside_tools: bool| Summary {
        runs: 2,
        runs_recorded: 2,
        tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
        outside_tools,
        ..Summary::default()
    };
    let search = Some(&["Search"][..]);
    assert_eq!(ids(search, &by(&["Search"], false)), [""; 0]);
    assert_eq!(
        ids(search, &by(&["Browse", "Search"], false)),
        ["other-tool"]
    );
    assert_eq!(
        ids(Some(&["Browse", "Search"]), &by(&["Search"], false)),
        [""; 0]
    );
    // An entry for any tool is not surprised by one.
    assert_eq!(ids(None, &by(&["Browse", "Search"], false)), [""; 0]);
    assert_eq!(ids(None, &by(&["Search"], true)), ["outside-tools"]);
    assert_eq!(
        ids(search, &by(&["Browse"], true)),
        ["other-tool", "outside-tools"]
    );
}

#[test]
fn the_worst_comes_first_and_ids_are_unique() {
    let ids = found("169.254.169.254", "80/tcp", None);
    assert_eq!(ids, ["metadata-service", "cleartext", "literal-address"]);
    let mut all: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), RULES.len());
}

#[test]
fn low_findings_and_figures_are_not_written() {
    let at = |to: &str, port: &str| written(&to.parse().unwrap(), &[port.parse().unwrap()]);
    assert_eq!(at("192.0.2.1", "443/tcp"), [""; 0]);
    assert_eq!(at("10.0.0.1", "80/tcp"), ["cleartext", "private-address"]);
}

#[test]
fn the_documented_table_is_this_one() {
    let documented = include_str!("../../../../docs/findings.md");
    assert!(
        documented.contains(&markdown()),
        "docs/findings.md should hold:\n{}",
        markdown()
    );
}

/// Whether `never-answered` is found of one destination, of which these records tell.
fn is_silent(records: &[(Channel, Option<bool>, &[Outcome])]) -> bool {
    let mut observations = Observations::new("w", 100);
    for (channel, answered, outcomes) in records {
        let destination = Destination {
            ip: "192.0.2.1".parse().unwrap(),
            service: "514/udp".parse().unwrap(),
        };
        let outcomes = outcomes.iter().map(|outcome| (*outcome, 1)).collect();
        let figures = Figures {
            answered: *answered,
            outcomes: Some(&outcomes),
            ..Figures::once(*channel)
        };
        observations.see("r", destination, &figures);
    }
    let evidence = evidence(&observations);
    let seen = Summaries::new(&evidence).of(&entry("192.0.2.1", &["514/udp"]));
    found("192.0.2.1", "514/udp", seen.as_ref()).contains(&"never-answered".to_owned())
}

#[test]
fn what_was_never_answered() {
    use {Channel::*, Outcome::*};
    for (records, expected) in [
        (&[(Connect, None, &[Refused][..])][..], true),
        (&[(Connect, None, &[Unknown])], true),
        (&[(Connect, None, &[Refused, Established])], false),
        (&[(Connect, None, &[Reset])], false),
        // One-way datagrams, and those that one day were answered.
        (&[(Sendmsg, Some(false), &[Unknown])], true),
        (&[(UdpConnect, Some(false), &[Unknown])], true),
        (
            &[
                (Sendmsg, Some(false), &[Unknown]),
                (Sendmsg, Some(true), &[Unknown]),
            ],
            false,
        ),
        // Of some of them nobody knows.
        (&[(Sendmsg, None, &[Unknown])], false),
        (
            &[
                (Sendmsg, Some(false), &[Unknown]),
                (Sendmsg, None, &[Unknown]),
            ],
            false,
        ),
        (&[(Import, None, &[])], false),
    ] {
        assert_eq!(is_silent(records), expected, "{records:?}");
    }
}
