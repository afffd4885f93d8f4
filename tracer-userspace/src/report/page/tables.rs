//! Findings, drift and destinations as text and tables.
//!
//! On small screens a row becomes a card. That takes a table's meaning from it in some browsers, so
//! the roles are written out.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    Judged, counted,
    facts::{Facts, Row},
    moment, said,
};
use crate::{
    analysis::{drift::Level, risk::Finding},
    record::{Confidence, Name, NameSource, Outcome},
};

/// Rows of the table of destinations; the evidence file has all.
const MAX_ROWS: usize = 1000;
/// Destinations that are listed for one finding.
const MAX_LISTED: usize = 20;
/// Differences from the policy that are listed.
const MAX_DRIFT: usize = 500;

/// Each finding once, worst first, with what it was found about.
pub(super) fn findings(facts: &Facts) -> Markup {
    let mut found: BTreeMap<&str, (&Finding, Vec<&Row>)> = BTreeMap::new();
    for row in &facts.rows {
        for rule in &row.findings {
            let known = found.entry(&rule.id).or_insert((rule, Vec::new()));
            known.1.push(row);
        }
    }
    let mut found: Vec<(&Finding, Vec<&Row>)> = found.into_values().collect();
    found.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.severity));
    html! {
        h3 { "Findings" }
        @if found.is_empty() { p { "Nothing was found." } }
        ul.findings {
            @for (rule, rows) in &found {
                li {
                    p {
                        span class={ "severity " (rule.severity) } { (rule.severity) }
                        " " strong { (rule.id) } " – " (rule.why)
                    }
                    p.about { (listed(rows)) }
                }
            }
        }
    }
}

fn listed(rows: &[&Row]) -> String {
    let shown = rows.iter().take(MAX_LISTED);
    let each: Vec<String> = shown
        .map(|row| format!("{} {}", said(&row.label), row.seen.service))
        .collect();
    match rows.len().saturating_sub(MAX_LISTED) {
        0 => each.join(", "),
        more => format!("{} and {more} more", each.join(", ")),
    }
}

/// What differs from the policy, worst first.
pub(super) fn drift(judged: &Judged) -> Markup {
    let left_out = judged.drift.len().saturating_sub(MAX_DRIFT);
    html! {
        h3 { "Drift" }
        p {
            "Against " (said(&judged.policy)) ", as approvals stood on " (judged.on) ". "
            @if judged.drift.is_empty() { "Everything observed is approved." }
        }
        @if !judged.drift.is_empty() {
            (table(&["Drift", "Destination", "Service", "Detail"], &judged.drift, MAX_DRIFT, |each| {
                let level = match each.level {
                    Level::Error => "high",
                    Level::Warning => "medium",
                };
                vec![
                    html! { span class={ "severity " (level) } { (each.kind.word()) } },
                    html! { (said(&each.to)) },
                    html! { (said(&each.service)) },
                    html! { (said(&each.detail)) },
                ]
            }))
        }
        @if left_out > 0 { p { (counted(left_out, "difference")) " more: `egress-tracer diff` lists all." } }
    }
}

/// Everything that is known of each destination.
pub(super) fn destinations(facts: &Facts) -> Markup {
    let head = [
        "Destination",
        "Names",
        "Service",
        "Processes",
        "Network",
        "Runs",
        "Connections",
        "Outcomes",
        "Sent",
        "Received",
        "First seen",
        "Last seen",
    ];
    let left_out = facts.rows.len().saturating_sub(MAX_ROWS);
    html! {
        h3 { "Destinations" }
        (table(&head, &facts.rows, MAX_ROWS, cells))
        @if left_out > 0 {
            p { (counted(left_out, "destination")) " more: policy.evidence.json has all." }
        }
    }
}

fn cells(row: &Row) -> Vec<Markup> {
    let seen = &row.seen;
    let text = |text: &str| html! { (said(text)) };
    vec![
        text(&seen.to.to_string()),
        text(&list(seen.names.iter().map(name), seen.more_names)),
        text(&seen.service.to_string()),
        text(&list(seen.processes.iter().cloned(), seen.more_processes)),
        text(&row.network),
        text(&seen.runs.to_string()),
        text(&seen.connections.to_string()),
        text(&list(seen.outcomes.iter().map(outcome), false)),
        text(&bytes(seen.bytes_sent)),
        text(&bytes(seen.bytes_received)),
        text(&moment(seen.first_seen)),
        text(&moment(seen.last_seen)),
    ]
}

fn list(items: impl Iterator<Item = String>, more: bool) -> String {
    let mut items: Vec<String> = items.collect();
    if more {
        items.push("and more".to_owned());
    }
    match items.is_empty() {
        true => "–".to_owned(),
        false => items.join(", "),
    }
}

fn name(name: &Name) -> String {
    let source = match name.source {
        NameSource::Dns => "DNS",
        NameSource::Sni => "TLS",
        NameSource::Quic => "QUIC",
        NameSource::Http => "HTTP",
        NameSource::Proxy => "proxy",
    };
    let belief = match name.confidence {
        Some(Confidence::Proven) => ", proven",
        Some(Confidence::Resolved) => ", resolved",
        Some(Confidence::Claimed) => ", claimed",
        Some(Confidence::Shared) => ", shared",
        None => "",
    };
    format!("{} ({source}{belief})", name.name)
}

fn outcome((outcome, count): (&Outcome, &u64)) -> String {
    format!("{} {count}", outcome.word())
}

/// Nobody counted where it is 0.
fn bytes(count: u64) -> String {
    match count {
        0 => "–".to_owned(),
        1..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1000),
        10_000_000.. => format!("{} MB", count / 1_000_000),
    }
}

/// A table of the first `most` items; `cells` gives as many cells as `head` has.
fn table<T>(head: &[&str], items: &[T], most: usize, cells: impl Fn(&T) -> Vec<Markup>) -> Markup {
    html! {
        table role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    @for name in head { th role="columnheader" scope="col" { (name) } }
                }
            }
            tbody role="rowgroup" {
                @for item in items.iter().take(most) {
                    tr role="row" {
                        @for (name, cell) in head.iter().zip(cells(item)) {
                            td role="cell" data-label=(name) { (cell) }
                        }
                    }
                }
            }
        }
    }
}
