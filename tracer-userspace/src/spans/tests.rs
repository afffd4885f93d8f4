//! Spans of real exporters' shape, and the flows that fall into them.

use super::{
    Decoded, Kind, Resource, Span,
    book::{Book, MOST_SPANS, Match, Subject},
    json, protobuf,
    protobuf::{
        AnyValue, ExportTraceServiceRequest, KeyValue, OtlpSpan, ResourceAttributes, ResourceSpans,
        ScopeSpans,
    },
};
use prost::Message as _;

const LINE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"agent"}},
    {"key":"process.pid","value":{"intValue":"77"}},
    {"key":"process.command_args","value":{"arrayValue":{"values":[{"stringValue":"x"}]}}}]},
  "scopeSpans":[{"scope":{"name":"s"},"spans":[
   {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173",
    "name":"execute_tool search","kind":1,"startTimeUnixNano":"1000","endTimeUnixNano":2000,
    "attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"execute_tool"}},
      {"key":"gen_ai.tool.name","value":{"stringValue":"search"}},
      {"key":"gen_ai.tool.call.id","value":{"stringValue":"c-1"}}],"events":[{"name":"e"}],"status":{}},
   {"spanId":"01","name":"GET","startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[]},
   {"spanId":"02","name":"chat","startTimeUnixNano":"9","endTimeUnixNano":"2","attributes":[
      {"key":"gen_ai.operation.name","value":{"stringValue":"chat"}}]}]}]}]}"#;

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            string_value: Some(value.to_owned()),
            int_value: None,
        }),
    }
}

fn message(span: OtlpSpan) -> Vec<u8> {
    let resource = ResourceAttributes {
        attributes: vec![text("container.id", "0123456789abcdef")],
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans: vec![span] }],
        }],
    }
    .encode_to_vec()
}

#[test]
fn json_tells_tools_and_counts_what_is_about_something_else() {
    let decoded = json::decode(LINE.as_bytes()).unwrap();
    let span = Span {
        kind: Kind::Tool,
        name: "search".to_owned(),
        call_id: "c-1".to_owned(),
        start_ns: 1000,
        end_ns: 2000,
        id: 0xeee1_9b7e_c3c1_b174,
        parent: 0xeee1_9b7e_c3c1_b173,
        resource: Resource {
            pid: Some(77),
            service: Some("agent".to_owned()),
            ..Resource::default()
        },
    };
    let expected = Decoded {
        spans: vec![span],
        others: 1,
        damaged: 1,
        too_many: 0,
    };
    assert_eq!(decoded, expected);
}

#[test]
fn protobuf_tells_an_mcp_request_and_cuts_its_name() {
    let long = "ü".repeat(100);
    let bytes = message(OtlpSpan {
        span_id: vec![0, 0, 0, 0, 0, 0, 0, 9],
        start_time_unix_nano: 5,
        end_time_unix_nano: 6,
        attributes: vec![
            text("mcp.method.name", "tools/call"),
            text("gen_ai.tool.name", &long),
        ],
        ..OtlpSpan::default()
    });
    let decoded = protobuf::decode(&bytes).unwrap();
    let [span] = decoded.spans.as_slice() else {
        panic!("{decoded:?}");
    };
    assert_eq!((span.kind, span.name.len()), (Kind::Tool, 128));
    assert_eq!(span.call_id, "0000000000000009");
    assert_eq!(
        span.resource.container_id.as_deref(),
        Some("0123456789abcdef")
    );
}

#[test]
fn operations_tell_what_a_span_is_about() {
    let kind = |operation: &str| {
        let attributes = vec![text("gen_ai.operation.name", operation)];
        let span = OtlpSpan {
            name: "n".to_owned(),
            start_time_unix_nano: 1,
            end_time_unix_nano: 1,
            attributes,
            ..OtlpSpan::default()
        };
        let decoded = protobuf::decode(&message(span)).unwrap();
        decoded.spans.first().map(|span| span.kind)
    };
    assert_eq!(kind("execute_tool"), Some(Kind::Tool));
    assert_eq!(kind("chat"), Some(Kind::Llm));
    assert_eq!(kind("embeddings"), Some(Kind::Llm));
    assert_eq!(kind("retrieval"), Some(Kind::Retriever));
    assert_eq!(kind("invoke_agent"), None);
}

/// A tool's span, of whom nobody says whose it is.
fn span(name: &str, id: u64, parent: u64, start_ns: u64, end_ns: u64) -> Span {
    Span {
        kind: Kind::Tool,
        name: name.to_owned(),
        call_id: String::new(),
        start_ns,
        end_ns,
        id,
        parent,
        resource: Resource::default(),
    }
}

fn flow(first_ns: u64, last_ns: u64) -> Subject<'static> {
    Subject {
        first_ns,
        last_ns,
        is_one_command: true,
        ..Subject::default()
    }
}

/// The names of what a flow falls into, with `?` behind if it may be none of them.
fn found(book: &Book, subject: &Subject<'_>) -> String {
    match book.find(subject) {
        Match::None => "none".to_owned(),
        Match::One(span) => span.name.clone(),
        Match::Several { among, or_none } => {
            let names: Vec<&str> = among.iter().map(|span| &*span.name).collect();
            format!("{}{}", names.join("|"), if or_none { "?" } else { "" })
        }
    }
}

fn book(spans: impl IntoIterator<Item = Span>) -> Book {
    let mut book = Book::default();
    book.add(spans);
    book
}

#[test]
fn one_span_around_a_flow_is_its_call_and_several_are_told_all() {
    let book = book([
        span("a", 1, 0, 10, 20),
        span("b", 2, 0, 15, 40),
        span("c", 3, 0, 60, 70),
    ]);
    assert_eq!(found(&book, &flow(10, 14)), "a");
    assert_eq!(found(&book, &flow(16, 18)), "a|b");
    assert_eq!(found(&book, &flow(12, 40)), "a|b");
    assert_eq!(found(&book, &flow(12, 41)), "a|b?");
    assert_eq!(found(&book, &flow(5, 12)), "a?");
    assert_eq!(found(&book, &flow(41, 59)), "none");
    assert_eq!(found(&book, &flow(30, 65)), "b|c?");
}

#[test]
fn a_part_counts_before_what_it_is_a_part_of() {
    let book = book([
        span("tool", 1, 0, 10, 100),
        span("mcp", 2, 1, 20, 90),
        span("model", 3, 2, 30, 40),
        span("itself", 7, 7, 200, 210),
    ]);
    assert_eq!(found(&book, &flow(11, 12)), "tool");
    assert_eq!(found(&book, &flow(25, 26)), "mcp");
    assert_eq!(found(&book, &flow(31, 32)), "model");
    assert_eq!(found(&book, &flow(201, 202)), "itself");
    // A part of the time it was the tool's own.
    assert_eq!(found(&book, &flow(15, 25)), "tool|mcp");
}

#[test]
fn who_told_a_span_must_be_able_to_have_sent_the_flow() {
    let of = |resource: Resource| {
        let mut told = span("a", 1, 0, 0, 10);
        told.resource = resource;
        book([told])
    };
    let ours = |subject: Subject<'static>| Subject {
        is_one_command: false,
        ..subject
    };
    let container = of(Resource {
        container_id: Some("0123456789ab".to_owned()),
        pid: Some(1),
        ..Resource::default()
    });
    let mut subject = ours(flow(1, 2));
    assert_eq!(found(&container, &subject), "none");
    subject.container_id = Some("0123456789abcdef");
    assert_eq!(found(&container, &subject), "a");
    subject.container_id = Some("fedcba9876543210");
    assert_eq!(found(&container, &subject), "none");

    let process = of(Resource {
        pid: Some(7),
        ..Resource::default()
    });
    let mut child = ours(flow(1, 2));
    child.pids = vec![9, 7, 1];
    assert_eq!(found(&process, &child), "a");
    child.pids = vec![9];
    assert_eq!(found(&process, &child), "none");

    let service = of(Resource {
        service: Some("shop".to_owned()),
        ..Resource::default()
    });
    let mut subject = ours(flow(1, 2));
    assert_eq!(found(&service, &subject), "none");
    subject.workload = "shop";
    assert_eq!(found(&service, &subject), "a");
    assert_eq!(found(&of(Resource::default()), &subject), "none");
}

#[test]
fn of_very_many_a_flow_is_one_of_more_than_are_named() {
    // Each is a part of others, in circles, and all of them go on for ever: what takes a step for each
    // pair of them does not end.
    let many = MOST_SPANS as u64;
    let circle = |at: u64| Span {
        parent: (at + 1) % many + 1,
        ..span("a", at + 1, 0, 0, u64::MAX)
    };
    let book = book((0..many).map(circle));
    for first in 1..200 {
        let Match::Several { among, .. } = book.find(&flow(first, first + 1)) else {
            panic!("one of many");
        };
        assert!(among.len() > 16, "{}", among.len());
    }
}

#[test]
fn what_no_flow_can_fall_into_any_more_is_not_looked_at() {
    let mut book = book([
        span("long", 1, 0, 0, 1_000_000),
        span("b", 2, 0, 2_000_000, 2_000_001),
    ]);
    book.forget_before(1_500_000);
    assert_eq!(found(&book, &flow(2_000_000, 2_000_001)), "b");
    assert_eq!(found(&book, &flow(1_999_999, 1_999_999)), "none");
}

#[test]
fn there_are_never_too_many() {
    let many = MOST_SPANS as u64 + 5;
    let mut book = book((0..many).map(|at| span("a", at + 1, 0, at + 1, at + 1)));
    assert_eq!((book.len(), book.given_way), (MOST_SPANS, 5));
    book.forget_before(many);
    assert_eq!(book.len(), 1);
}

#[test]
fn whatever_comes_nothing_panics() {
    let seeds = [
        LINE.as_bytes().to_vec(),
        message(OtlpSpan {
            name: "x".to_owned(),
            attributes: vec![text("gen_ai.operation.name", "chat")],
            ..OtlpSpan::default()
        }),
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            for byte in [0, 0x7f, 0xff, seed[at].wrapping_add(1)] {
                let mut damaged = seed.clone();
                damaged[at] = byte;
                crate::fuzzing::spans(&damaged);
            }
            crate::fuzzing::spans(&seed[..at]);
        }
    }
}
