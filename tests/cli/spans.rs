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

/// The log, which knows no tool, held against the policy, which asks for one.
fn diff(spans: &str, more: &str) -> Ran {
    let world = World::new();
    world.write("policy.toml", POLICY);
    world.write("spans.jsonl", spans);
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, more)));
    let files = ["diff", "policy.toml", "log.jsonl", "--now", "2026-11-22"];
    world.run(&[&files[..], &["--spans", "spans.jsonl"]].concat())
}

#[test]
fn a_flow_within_one_span_is_its_tools() {
    diff(&span("Search", -1, 1), "").exits(0);
    let other = diff(&span("Browse", -1, 1), "").exits(1);
    other.shows("for tool Browse");
}

#[test]
fn a_flow_within_several_spans_or_none_is_nobodys() {
    let both = span("Search", -2, 1) + "\n" + &span("Browse", -1, 2);
    diff(&both, "").exits(1).shows("changed: 1");
    for elsewhen in [span("Search", -9, -5), span("Search", 0, 0)] {
        diff(&elsewhen, "").exits(1).shows("changed: 1");
    }
}

#[test]
fn what_the_log_says_counts_before_a_span() {
    let marked = ",\"tool\":{\"name\":\"Browse\",\"call_id\":\"c\",\"attribution\":\"exact\"}";
    diff(&span("Search", -1, 1), marked)
        .exits(1)
        .shows("for tool Browse");
}

#[test]
fn generate_reads_them_too() {
    let world = World::new();
    world.write("policy.toml", POLICY);
    world.write("spans.jsonl", span("Browse", -1, 1));
    world.write("log.jsonl", whole("w", &flow("w", "192.0.2.1", 443, "")));
    let generate = ["log.jsonl", "--spans", "spans.jsonl", "-o", "policy.toml"];
    world.generate(&generate).exits(0);
    assert!(world.read("policy.toml").contains("tools = [\"Browse\"]"));
}

#[test]
fn what_is_no_span_is_named_and_nothing_is_written() {
    diff("{\"resourceSpans\":[]}\n{\"resource", "")
        .exits(2)
        .says("spans.jsonl: line 2");
    diff("{\"resourceSpans\":[]}\n", "")
        .exits(1)
        .says("no span of a tool");
}
