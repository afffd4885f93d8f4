//! Reports that tools read: JSON, SARIF 2.1.0, JUnit's XML, GitHub's workflow commands.

use serde_json::{Value, json};

use super::{Report, plain};
use crate::{
    analysis::drift::{Drift, Kind, Level},
    harmless,
};

pub(super) fn json(report: &Report<'_>) -> serde_json::Result<String> {
    let object = json!({
        "schema": "egress-tracer/drift/1",
        "workload": report.workload,
        "drift": report.drift,
    });
    Ok(harmless::pretty_json(&object)? + "\n")
}

pub(super) fn sarif(report: &Report<'_>) -> serde_json::Result<String> {
    let rules: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| json!({"id": kind.word(), "shortDescription": {"text": kind.meaning()}}))
        .collect();
    let results: Vec<Value> = with_lines(report)
        .map(|(each, line)| {
            json!({
                "ruleId": each.kind.word(),
                "level": level(each.level),
                "message": {"text": sentence(each)},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": uri(report.policy)},
                    "region": {"startLine": line},
                }}],
                "partialFingerprints": {
                    "drift/v1": format!("{} {} {}", each.kind.word(), each.to, each.service),
                },
            })
        })
        .collect();
    let object = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "egress-tracer",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    });
    Ok(harmless::pretty_json(&object)? + "\n")
}

pub(super) fn junit(report: &Report<'_>) -> String {
    let is_error = |each: &&Drift| each.level == Level::Error;
    let failures = report.drift.iter().filter(is_error).count();
    // A report without a single case is taken for a broken one.
    let tests = report.drift.len().max(1);
    let suite = xml(report.workload);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites>\n  <testsuite name=\"egress {suite}\" tests=\"{tests}\" \
         failures=\"{failures}\">\n"
    );
    if report.drift.is_empty() {
        text += "    <testcase classname=\"egress\" name=\"no drift\"/>\n";
    }
    for each in report.drift {
        let name = xml(&format!(
            "{} {} {}",
            each.kind.word(),
            each.to,
            each.service
        ));
        let message = xml(&sentence(each));
        let body = match each.level {
            Level::Error => format!("<failure message=\"{message}\"/>"),
            Level::Warning => format!("<system-out>{message}</system-out>"),
        };
        text += &format!("    <testcase classname=\"egress\" name=\"{name}\">{body}</testcase>\n");
    }
    text + "  </testsuite>\n</testsuites>\n"
}

pub(super) fn github(report: &Report<'_>) -> String {
    with_lines(report)
        .map(|(each, line)| {
            let (file, message) = (property(report.policy), data(&sentence(each)));
            let (level, title) = (level(each.level), each.kind.word());
            format!("::{level} file={file},line={line},title=egress {title}::{message}\n")
        })
        .collect()
}

fn with_lines<'a>(report: &Report<'a>) -> impl Iterator<Item = (&'a Drift, usize)> {
    let lines = report.lines.iter().copied().chain(std::iter::repeat(1));
    report.drift.iter().zip(lines)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}

fn sentence(each: &Drift) -> String {
    let text = format!("{} {}: {}", each.to, each.service, each.detail);
    plain(&format!("{text}. {}", each.kind.meaning()))
}

/// A relative path as a URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| match keep(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// XML 1.0 has no way to write most control characters: [`plain`] has spelled them out.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for each in plain(text).chars() {
        match each {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            _ => escaped.push(each),
        }
    }
    escaped
}

/// What GitHub's toolkit escapes in a command's message.
fn data(text: &str) -> String {
    plain(text).replace('%', "%25")
}

/// And in its properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
