//! Settings of the sandbox runtime, through the schema by which it reads them.

use std::{path::Path, process::Command};

use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::Value;
use tracer_userspace::render::{Format, NamedRule, RuleSet, Scope, Verdict};

use crate::{hostile::rule_set, netns, render, rules};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sandbox-runtime");
/// All of them are read by one process.
const CASES: usize = 300;

fn ready(test: &str) -> bool {
    let modules = Path::new(FOLDER).join("node_modules/@anthropic-ai/sandbox-runtime");
    let is_ready = modules.is_dir() && netns::has("node");
    if !is_ready {
        eprintln!("SKIPPED {test}: not installed: node, or the modules of tests/sandbox-runtime");
    }
    is_ready
}

fn named(names: &[&str]) -> RuleSet {
    let names = names.iter().map(|name| NamedRule {
        name: (*name).to_owned(),
        service: "443/tcp".parse().unwrap(),
        comment: String::new(),
        expires: None,
    });
    RuleSet {
        names: names.collect(),
        ..rules(&[("198.51.100.7/32", "443/tcp")])
    }
}

/// What the runtime says of each one's settings: nothing, or what is wrong.
fn complaints(of: &[Value]) -> Vec<String> {
    let input = serde_json::to_string(of).unwrap();
    let mut command = Command::new("node");
    let said = netns::run(command.arg("check.mjs").current_dir(FOLDER), &input);
    assert!(said.ok, "{}", said.err);
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn settings(rules: &RuleSet) -> (Value, Vec<String>) {
    let made = render(
        Format::SandboxRuntime,
        rules,
        Verdict::Drop,
        Scope::Namespace,
    );
    (serde_json::from_str(&made.text).unwrap(), made.omissions)
}

#[test]
fn the_sandbox_runtime_takes_its_settings() {
    if !ready("the_sandbox_runtime_takes_its_settings") {
        return;
    }
    let names = [
        "api.example.com",
        "*.cdn.example.com",
        "localhost",
        "*.com",
        "intranet",
    ];
    let (made, omissions) = settings(&named(&names));
    let wrong =
        serde_json::json!({ "network": { "allowedDomains": ["*.com"], "deniedDomains": [] } });
    let said = complaints(&[made.clone(), wrong]);
    assert_eq!(said[0], "");
    assert!(said[1].contains("Invalid domain pattern"), "{}", said[1]);
    let allowed = &made["network"]["allowedDomains"];
    let expected = ["*.cdn.example.com", "api.example.com", "localhost"];
    assert_eq!(*allowed, serde_json::json!(expected));
    for refused in ["*.com 443/tcp: ", "intranet 443/tcp: "] {
        let is_said = |line: &String| line.starts_with(refused) && line.contains("one label");
        assert!(omissions.iter().any(is_said), "{omissions:?}");
    }
}

#[test]
fn the_sandbox_runtime_takes_whatever_it_is_about() {
    if !ready("the_sandbox_runtime_takes_whatever_it_is_about") {
        return;
    }
    let mut runner = TestRunner::deterministic();
    let made = |_| {
        let rules = proptest::strategy::Strategy::new_tree(&rule_set(), &mut runner);
        settings(&rules.unwrap().current()).0
    };
    let made: Vec<Value> = (0..CASES).map(made).collect();
    let names: usize = made
        .iter()
        .filter_map(|each| each["network"]["allowedDomains"].as_array())
        .map(Vec::len)
        .sum();
    assert!(names > CASES / 2, "{names} names in all");
    let said = complaints(&made);
    assert_eq!(said.len(), CASES);
    for (said, made) in said.iter().zip(&made) {
        assert_eq!(said, "", "{made:#}");
    }
}
