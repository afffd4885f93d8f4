//! `--spans`: what agents have exported tells the tools of flows of which the log does not.

use crate::world::{Ran, World, flow, whole};

const POLICY: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n\
    [[allow]]\nto = \"192.0.2.1\"\nports = [\"443/tcp\"]\ntools = [\"Search\"]\n\
    status = \"approved\"\nreason = \"the search index\"\nowner = \"o\"\nexpires = 2027-06-01\n";

/// 2026-11-22T10:00:00Z, when the flow was.
const THEN: i64 = 1_795_341_600;

/// A span of a tool, from and to so many seconds after the flow began; the flow lasts one.
fn span(tool: &str, from: i64, to: i64) -> String {
    let (start, end) = (THEN + from, THEN + to);
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"spanId":"{start:016x}","name":"x",
        "startTimeUnixNano":"{start}000000000","endTimeUnixNano":"{end}000000000","attributes":[
        {{"key":"gen_ai.operation.name","value":{{"stringValue":"execute_tool"}}}},
        {{"key":"gen_ai.tool.name","value":{{"stringValue":"{tool}"}}}}]}}]}}]}}]}}"#
    )
    .replace('\n', "")
        + "\n"
}

/// What `generate` makes of a log and the policy, which knows the place for one tool.
fn generate(spans: &str, more: &str) -> (Ran, String) {
    let world = World::new();
    world.write("policy.toml", POLICY);
    world.write("spans.jsonl", spans);
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, more)));
    let ran = world.generate(&["log.jsonl", "--spans", "spans.jsonl", "-o", "policy.toml"]);
    (ran, world.read("policy.toml"))
}

/// The policy that is made.
fn made(spans: &str, more: &str) -> String {
    let (ran, policy) = generate(spans, more);
    ran.exits(0);
    policy
}

const BROWSE: &str = "tools = [\"Browse\"]";

#[test]
fn a_flow_within_one_span_is_its_tools() {
    assert_eq!(made(&span("Search", -1, 1), ""), POLICY);
    assert!(made(&span("Browse", -1, 1), "").contains(BROWSE));
}

#[test]
fn a_flow_within_several_spans_or_none_is_nobodys() {
    let both = span("Search", -2, 1) + "\n" + &span("Browse", -1, 2);
    for spans in [both, span("Browse", -9, -5), span("Browse", 0, 0)] {
        let policy = made(&spans, "");
        assert!(!policy.contains(BROWSE), "{policy}");
        assert!(policy.contains("status = \"candidate\""), "{policy}");
    }
}

#[test]
fn what_the_log_says_counts_before_a_span() {
    let marked = ",\"tool\":{\"name\":\"Browse\",\"call_id\":\"c\",\"attribution\":\"exact\"}";
    assert!(made(&span("Search", -1, 1), marked).contains(BROWSE));
}

#[test]
fn drift_and_verdict_are_by_destination_and_tool() {
    let judge = |spans: &str| {
        let world = World::new();
        world.write("policy.toml", POLICY);
        world.write("spans.jsonl", spans);
        world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
        ["diff", "replay"].map(|verb| {
            let words = [verb, "policy.toml", "log.jsonl", "--now", "2026-11-22"];
            world.run(&[&words[..], &["--spans", "spans.jsonl"]].concat())
        })
    };
    for ran in judge(&span("Search", -1, 1)) {
        ran.exits(0);
    }
    for ran in judge(&span("Browse", -1, 1)) {
        ran.exits(1).shows("Browse");
    }
    // It may have been either, and one of them may not; or none that is known.
    let both = span("Search", -2, 1) + &span("Browse", -1, 2);
    for ran in judge(&both) {
        ran.exits(1).shows("Browse or Search");
    }
    for spans in [String::new(), span("Search", -9, -5)] {
        for ran in judge(&spans) {
            ran.exits(1);
        }
    }
    for ran in judge("{\"resourceSpans\"") {
        ran.exits(2).says("spans.jsonl: line 1");
    }
}

#[test]
fn coverage_counts_what_spans_tell() {
    let world = World::new();
    world.write("spans.jsonl", span("Search", -1, 1));
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    world
        .run(&["coverage", "log.jsonl", "--spans", "spans.jsonl"])
        .exits(0)
        .shows("tool Search: 1 destination(s), 1 certainly its own, in 1 run(s)");
}

#[test]
fn what_cannot_be_used_of_a_file_is_told() {
    let one = span("Search", -1, 1);
    let (head, rest) = one.split_once("\"spans\":[").unwrap();
    let (inner, tail) = rest.split_once("]}]}]}\n").unwrap();
    let many = vec![inner; 8200].join(",");
    let (ran, _) = generate(&format!("{head}\"spans\":[{many}]}}]}}]}}\n{tail}"), "");
    ran.exits(0).says("8 span(s) are left out");
    let (ran, _) = generate(&span("Search", 1, -1), "");
    ran.exits(0).says("1 span(s) are left out");
}

#[test]
fn what_is_no_span_is_named_and_nothing_is_written() {
    let (ran, policy) = generate("{\"resourceSpans\":[]}\n{\"resource", "");
    ran.exits(2).says("spans.jsonl: line 2");
    assert_eq!(policy, POLICY);
    let (ran, _) = generate("{\"resourceSpans\":[]}\n", "");
    ran.exits(0).says("no span of a tool");
}
