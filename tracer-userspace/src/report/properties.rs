//! Whatever workloads call themselves and talk to, a report says it, and nothing else.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use proptest::{collection::vec, prelude::*, sample::select};
use regex::Regex;
use serde_json::Value;

use super::{Form, Report, page, text as write};
use crate::{
    analysis::{
        drift::{Drift, Kind, Level},
        risk::own::Own,
    },
    harmless::steers,
    output::terminal,
    policy::{
        Observations,
        model::Service,
        observe::Destination,
        seen::{Figures, Who},
        tools::Tools,
    },
    ranges::Ranges,
    record::{Channel, Confidence, Name, NameSource, Protocol},
    render::hostile::text as hostile,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        hostile(),
        Just("]]></failure><testcase name=\"x\"/>".to_owned()),
        Just("\n::error file=x::pwned".to_owned()),
        Just("</td><script>alert(1)</script>&lt;".to_owned()),
        Just("a\\|b`|<img src=x onerror=alert(1)>".to_owned()),
        Just("\" onmouseover=\"x\u{202e}\u{1b}]8;;http://x\u{7}".to_owned()),
    ]
}

fn drift() -> impl Strategy<Value = Drift> {
    let kind = select(Kind::ALL.to_vec());
    let level = prop_oneof![Just(Level::Error), Just(Level::Warning)];
    (kind, level, text(), text(), text()).prop_map(|(kind, level, to, service, detail)| Drift {
        kind,
        level,
        to,
        service,
        detail,
        entry: None,
    })
}

/// Each line is one of these; how many there are.
#[track_caller]
fn lines_are(text: &str, pattern: &str) -> usize {
    let pattern = Regex::new(pattern).unwrap();
    for line in text.lines() {
        assert!(pattern.is_match(line), "{line}");
    }
    text.lines().count()
}

/// Text in XML, as an attribute or between elements.
const XML: &str = r#"(?:[^&<>"]|&(?:amp|lt|gt|quot);)*"#;

#[track_caller]
fn is_junit(text: &str, cases: usize) {
    let case = format!(
        r#"    <testcase classname="egress" name="{XML}"(/>|>(<failure message="{XML}"/>|<system-out>{XML}</system-out>)</testcase>)"#
    );
    let suite = format!(r#"  <testsuite name="{XML}" tests="\d+" failures="\d+">"#);
    let frame = r#"<\?xml version="1.0" encoding="UTF-8"\?>|</?testsuites>|  </testsuite>"#;
    let lines = lines_are(text, &format!("^({frame}|{suite}|{case})$"));
    assert_eq!(lines, 5 + cases.max(1), "{text}");
}

#[track_caller]
fn is_markdown(text: &str, rows: usize) {
    // Neither ends a cell: a bar would, also after two backslashes.
    let cell = "`[^`|]*`";
    let row = format!(r"^\| \*\*[a-z-]+\*\* \| {cell} \| {cell} \| {cell} \|$");
    let (mut found, mut others) = (Vec::new(), 0);
    for line in text.lines() {
        match line.starts_with("| **") {
            true => found.push(line),
            false => others += 1,
        }
    }
    assert_eq!(lines_are(&found.join("\n"), &row), rows, "{text}");
    assert_eq!(others, if rows == 0 { 3 } else { 4 }, "{text}");
}

proptest! {
    #[test]
    fn a_drift_report_says_each_difference_and_nothing_else(
        workload in text(), policy in text(), drift in vec(drift(), 0..6),
    ) {
        let report = Report { workload: &workload, policy: &policy, drift: &drift, lines: &[] };
        let made = |form| write(&report, form).unwrap();
        let all = [Form::Text, Form::Json, Form::Markdown, Form::Sarif, Form::Junit, Form::Github];
        for form in all {
            let text = made(form);
            prop_assert!(!text.contains(|each| steers(each) && each != '\n'), "{form:?}: {text:?}");
        }
        let json: Value = serde_json::from_str(&made(Form::Json)).unwrap();
        prop_assert_eq!(&json["workload"], &Value::from(workload.clone()));
        for (told, each) in json["drift"].as_array().unwrap().iter().zip(&drift) {
            prop_assert_eq!(&told["detail"], &Value::from(each.detail.clone()));
        }
        let sarif: Value = serde_json::from_str(&made(Form::Sarif)).unwrap();
        prop_assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), drift.len());
        is_markdown(&made(Form::Markdown), drift.len());
        is_junit(&made(Form::Junit), drift.len());
        let command = r"^::(error|warning) file=[^:,]*,line=\d+,title=egress [a-z-]+::.*$";
        prop_assert_eq!(lines_are(&made(Form::Github), command), drift.len());
    }

    #[test]
    fn a_page_has_no_markup_but_its_own(
        workload in text(), run in text(), process in text(), tool in text(), name in text(),
        drift in vec(drift(), 0..3),
    ) {
        let mut observations = Observations::new(workload, 10);
        see(&mut observations, &run, &process, &tool, name);
        let judged = page::Judged {
            policy: process,
            on: jiff::civil::date(2026, 11, 23),
            drift,
        };
        let html = page::html(&page::Page {
            workloads: vec![page::Workload { observations: &observations, judged: Some(judged) }],
            ranges: &Ranges::default(),
            own: &Own::default(),
            now: None,
        });
        has_only_own_markup(&html);
    }

    #[test]
    fn a_terminal_is_not_steered(text in text()) {
        let told = terminal::escape(&text);
        prop_assert!(!told.contains(steers));
        if !text.contains(steers) {
            prop_assert_eq!(told, text);
        }
    }
}

/// One connection, with all that a workload names.
fn see(observations: &mut Observations, run: &str, process: &str, tool: &str, name: String) {
    let destination = Destination {
        ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        service: Service::Port {
            protocol: Protocol::TCP,
            port: 443,
        },
    };
    let names = [Name {
        name,
        source: NameSource::Dns,
        confidence: Some(Confidence::Proven),
        port: None,
        ech: false,
        alpn: vec![process.to_owned()],
        via: Some(tool.to_owned()),
    }];
    let figures = Figures {
        count: 1,
        outcomes: None,
        bytes_sent: 1,
        bytes_received: 1,
        answered: None,
        first_seen: Some(jiff::Timestamp::UNIX_EPOCH),
        last_seen: Some(jiff::Timestamp::UNIX_EPOCH),
        process: Some(process),
        who: Who::default(),
        names: &names,
        role: None,
        peer: Some(process),
        via_engine: false,
        writable_path: false,
        channel: Channel::Connect,
        left: None,
        tool: Some(Tools::one(tool)),
    };
    observations.see(run, destination, &figures);
}

/// What the page is made of.
const ELEMENTS: &str = "a body caption circle code dd details div dl dt figcaption figure footer g h1 h2 h3 h4 \
    head header html li line main meta nav ol p path polygon polyline rect section small span strong style \
    summary svg table tbody td text tfoot th thead time title tr tspan ul";

#[track_caller]
fn has_only_own_markup(html: &str) {
    assert!(!html.contains(|each| steers(each) && each != '\n'));
    let (before, rest) = html.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    let known: BTreeSet<&str> = ELEMENTS.split_whitespace().collect();
    let attributes = Regex::new(r#"^(\s+[A-Za-z0-9:-]+(="[^"<>]*")?)*$"#).unwrap();
    let handler = Regex::new(r#"(^|["\s])\s*on[a-z]+="#).unwrap();
    for piece in format!("{before}{after}").split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("{piece}"));
        assert!(!text.contains('>'), "{piece}");
        if tag == "!DOCTYPE html" {
            continue;
        }
        let tag = tag.trim_start_matches('/');
        let (name, rest) = tag.split_at(tag.find(char::is_whitespace).unwrap_or(tag.len()));
        assert!(known.contains(name), "{piece}");
        assert!(
            attributes.is_match(rest) && !handler.is_match(rest),
            "{piece}"
        );
    }
}
