//! `docs/policy.schema.json`, held against the reader: the same keys, the same words.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::{
    analysis::risk::RULES,
    policy::{
        document::{ENTRY_KEYS, POLICY_KEYS},
        model::{SCHEMA, Service, Status},
    },
};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/policy.schema.json")).unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_schema_knows_the_keys_that_the_reader_knows() {
    let schema = schema();
    let entry = &schema["$defs"]["entry"];
    assert_eq!(keys(&schema), BTreeSet::from(POLICY_KEYS));
    assert_eq!(keys(entry), BTreeSet::from(ENTRY_KEYS));
    for object in [&schema, entry] {
        assert_eq!(object["additionalProperties"], Value::Bool(false));
    }
    assert_eq!(schema["properties"]["schema"]["const"], SCHEMA);
    let statuses = [Status::Candidate, Status::Approved, Status::Denied].map(Status::word);
    assert_eq!(
        entry["properties"]["status"]["enum"],
        serde_json::json!(statuses)
    );
}

#[test]
fn the_schema_takes_the_services_that_the_reader_takes() {
    let schema = schema();
    let pattern = schema["$defs"]["service"]["pattern"].as_str().unwrap();
    let pattern = Regex::new(pattern).unwrap();
    for text in [
        "443/tcp",
        "0/udp",
        "icmp",
        "icmp/echo-request",
        "ip-99",
        "132/sctp",
        "gre",
        "65535/udplite",
        "",
        "443",
        "tcp",
        "tcp/443",
        "443/icmp",
        "+1/tcp",
        "01/tcp",
        "tcp/x",
        "icmp/",
        "icmp/Echo",
    ] {
        assert_eq!(
            pattern.is_match(text),
            text.parse::<Service>().is_ok(),
            "{text:?}"
        );
    }
}

#[test]
fn the_schema_names_every_finding() {
    let schema = schema();
    let named = schema["$defs"]["finding"]["examples"].as_array().unwrap();
    let named: BTreeSet<&str> = named.iter().filter_map(Value::as_str).collect();
    assert_eq!(named, RULES.iter().map(|rule| rule.id).collect());
}
