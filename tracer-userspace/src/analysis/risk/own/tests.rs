//! One's own rules and exceptions, where they hold and where not; files that make no sense.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    read::{EXCEPT_KEYS, FILE_KEYS, RULE_KEYS},
    *,
};
use crate::{
    analysis::{risk, summary::Summary},
    policy::model::Entry,
};

const HEAD: &str = "schema = \"egress-tracer/findings/1\"\n";

fn rule(conditions: &str) -> String {
    format!(
        "{HEAD}[[rule]]\nid = \"ours\"\nseverity = \"critical\"\nreason = \"we said so\"\n{conditions}"
    )
}

fn found(own: &Own, to: &str, port: &str, tools: &[&str], seen: Option<&Summary>) -> Vec<String> {
    let tools: Vec<String> = tools.iter().map(|tool| (*tool).to_owned()).collect();
    let entry = Entry {
        tools: (!tools.is_empty()).then_some(tools),
        ..Entry::candidate(to.parse().unwrap(), vec![port.parse().unwrap()])
    };
    let subject = Subject {
        own,
        seen,
        ..Subject::of(&entry)
    };
    let all = risk::findings(&subject);
    all.iter().map(|each| each.id.to_string()).collect()
}

#[test]
fn a_rule_holds_where_all_its_conditions_do() {
    let seen = Summary {
        addresses: BTreeSet::from(["198.51.100.9".parse().unwrap()]),
        processes: BTreeSet::from(["curl".to_owned()]),
        runs: 1,
        runs_recorded: 1,
        ..Summary::default()
    };
    let holds = |conditions: &str, to: &str, port: &str| {
        let own: Own = rule(conditions).parse().unwrap();
        found(&own, to, port, &["SearchTool"], Some(&seen)).contains(&"ours".to_owned())
    };
    let name = "name = \"*.corp.example\"\n";
    assert!(holds(name, "git.corp.example", "443/tcp"));
    assert!(!holds(name, "corp.example", "443/tcp"));
    assert!(!holds("name = \"*\"\n", "192.0.2.1", "443/tcp"));
    let cidr = "cidr = \"198.51.100.0/24\"\n";
    for to in [
        "198.51.100.1",
        "198.51.100.8/30",
        "198.51.0.0/16",
        "a.example",
    ] {
        assert!(holds(cidr, to, "443/tcp"), "{to}");
    }
    assert!(!holds(cidr, "192.0.2.1", "443/tcp"));
    assert!(holds("port = \"22/tcp\"\n", "192.0.2.1", "22/tcp"));
    assert!(!holds("port = \"22/tcp\"\n", "192.0.2.1", "443/tcp"));
    assert!(holds("process = \"cur?\"\n", "192.0.2.1", "22/tcp"));
    assert!(!holds("process = \"wget\"\n", "192.0.2.1", "22/tcp"));
    assert!(holds("tool = \"Search*\"\n", "192.0.2.1", "22/tcp"));
    assert!(!holds("tool = \"search*\"\n", "192.0.2.1", "22/tcp"));
    let both = format!("{name}port = \"22/tcp\"\n");
    assert!(holds(&both, "git.corp.example", "22/tcp"));
    assert!(!holds(&both, "git.corp.example", "443/tcp"));
}

#[test]
fn a_critical_rule_has_to_be_acknowledged_like_any_other() {
    let own: Own = rule("port = \"22/tcp\"\n").parse().unwrap();
    let entry = Entry::candidate(
        "a.example".parse().unwrap(),
        vec!["22/tcp".parse().unwrap()],
    );
    let subject = Subject {
        own: &own,
        ..Subject::of(&entry)
    };
    let all = risk::findings(&subject);
    assert!(all[0].id == "ours" && all[0].must_be_acknowledged());
    assert_eq!(all[0].why, "we said so");
}

#[test]
fn an_exception_holds_for_its_finding_and_destination_until_its_day() {
    let except = "[[except]]\nfinding = \"private-address\"\nto = \"10.1.2.*\"\n\
                  reason = \"our own registry\"\nexpires = 2026-12-01\n";
    let own: Own = format!("{HEAD}{except}").parse().unwrap();
    let day = |day: &str| day.parse::<Date>().unwrap();
    let (own, over) = own.on(day("2026-12-01"));
    assert!(over.is_empty());
    let ids = |own: &Own, to: &str| found(own, to, "443/tcp", &[], None);
    assert_eq!(ids(&own, "10.1.2.3"), ["literal-address"]);
    assert_eq!(
        ids(&own, "10.1.3.3"),
        ["private-address", "literal-address"]
    );
    assert_eq!(ids(&own, "10.0.0.0/8").len(), 2);
    let (own, over) = own.on(day("2026-12-02"));
    let told = "the exception from private-address for 10.1.2.* expired on 2026-12-01";
    assert_eq!(over, [told]);
    assert_eq!(ids(&own, "10.1.2.3").len(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_in_one_sentence_with_its_line() {
    let except = "[[except]]\nfinding = \"broad\"\nto = \"*\"\nreason = \"two words\"\n";
    for (text, line, said) in [
        ("x x".to_owned(), 1, "not TOML"),
        (
            "schema = \"x\"\n".to_owned(),
            1,
            "not known to this version",
        ),
        (format!("{HEAD}[[rules]]\n"), 2, "not a key"),
        (format!("{HEAD}rule = 1\n"), 2, "write each under [[rule]]"),
        (rule(""), 2, "about nothing"),
        (rule("port = \"443\"\n"), 6, "is not a service"),
        (rule("cidr = \"10.0.0.0\"\n"), 6, "cidr"),
        (rule("name = \"***\"\n"), 6, "name"),
        (rule("tools = \"x\"\n"), 6, "not a key"),
        (
            rule("name = \"a\"\n").replace("ours", "broad"),
            3,
            "already",
        ),
        (
            rule("name = \"a\"\n").replace("ours", "Ours!"),
            3,
            "lower-case",
        ),
        (
            rule("name = \"a\"\n").replace("critical", "worst"),
            4,
            "severity",
        ),
        (
            rule("name = \"a\"\n").replace("we said so", "no"),
            5,
            "not a reason",
        ),
        (format!("{HEAD}{except}"), 2, "expires is missing"),
        (
            format!("{HEAD}{except}expires = \"2027-01-01\"\n"),
            6,
            "without quotes",
        ),
        (
            format!("{HEAD}{except}").replace("broad", "brood"),
            3,
            "not a finding",
        ),
    ] {
        let error = text.parse::<Own>().unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(said), "{text}: {error}");
        assert!(!error.message.contains('\n'), "{error}");
    }
}

#[test]
fn the_schema_knows_the_keys_that_the_reader_knows() {
    let schema = include_str!("../../../../../docs/findings.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let objects = BTreeMap::from([
        ("", FILE_KEYS.as_slice()),
        ("/$defs/rule", RULE_KEYS.as_slice()),
        ("/$defs/except", EXCEPT_KEYS.as_slice()),
    ]);
    for (place, keys) in objects {
        let object = schema.pointer(place).unwrap();
        let named: BTreeSet<&str> = object["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(named, keys.iter().copied().collect(), "{place}");
        assert_eq!(object["additionalProperties"], Value::Bool(false));
    }
    assert_eq!(schema["properties"]["schema"]["const"], SCHEMA);
}
