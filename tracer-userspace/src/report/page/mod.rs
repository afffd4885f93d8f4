//! The report: one page of HTML about what workloads talked to. It is complete in itself: no
//! script, no picture from elsewhere, nothing that the browser would fetch.
//!
//! Shapes are closed by `{}`: to a browser nothing of SVG is void.
//!
//! Pure, and without a clock: the same input gives the same bytes. Everything that comes from logs
//! and policies is escaped by the template engine, and what would steer a reader is spelled out
//! before that ([`said`]).
//!
//! | file | defines |
//! |---|---|
//! | `facts` | what is told of each destination |
//! | `flow` | the picture from process to destination to network |
//! | `curve` | how many destinations the runs have shown |
//! | `timeline` | when each destination was seen |
//! | `tables` | destinations, findings and drift |

mod curve;
mod facts;
mod flow;
mod tables;
mod timeline;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::Date};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use self::facts::Facts;
use super::plain;
use crate::{
    analysis::{drift::Drift, risk::own::Own},
    policy::Observations,
    ranges::Ranges,
};

const STYLE: &str = include_str!("style.css");

/// What the page is made of.
#[derive(Debug)]
pub struct Page<'a> {
    pub workloads: Vec<Workload<'a>>,
    /// For the network of each address; may be empty.
    pub ranges: &'a Ranges,
    /// Findings of one's own, and exceptions.
    pub own: &'a Own,
    /// Shown, if somebody said so.
    pub now: Option<Timestamp>,
}

/// One workload's part of it.
#[derive(Debug)]
pub struct Workload<'a> {
    pub observations: &'a Observations,
    pub judged: Option<Judged>,
}

/// What was observed, held against a policy.
#[derive(Debug)]
pub struct Judged {
    /// The policy's path, as it was given.
    pub policy: String,
    /// The day for which approvals were looked at, UTC.
    pub on: Date,
    pub drift: Vec<Drift>,
}

/// The page's text.
#[must_use]
pub fn html(page: &Page<'_>) -> String {
    let all: Vec<Facts> = page
        .workloads
        .iter()
        .map(|workload| Facts::of(workload.observations, page.ranges, page.own))
        .collect();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(content_policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Egress report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    h1 { "Egress report" }
                    (overview(page, &all))
                }
                main #content {
                    @for (number, (workload, facts)) in page.workloads.iter().zip(&all).enumerate() {
                        (section(number, workload, facts))
                    }
                }
                footer { (footer(page)) }
            }
        }
    };
    markup.into_string()
}

/// A browser must load nothing and run nothing, whatever stands in the page; the style alone is
/// let through, by its digest.
fn content_policy() -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

fn overview(page: &Page<'_>, all: &[Facts]) -> Markup {
    html! {
        nav aria-label="Workloads" {
            ul {
                @for (number, (workload, facts)) in page.workloads.iter().zip(all).enumerate() {
                    li {
                        a href={ "#w" (number) } { (said(workload.observations.workload())) }
                        " – " (counted(facts.rows.len(), "destination")) " in "
                        (counted(workload.observations.runs(), "run"))
                        @if let Some(judged) = &workload.judged {
                            ", " (counted(judged.drift.len(), "difference")) " from the policy"
                        }
                    }
                }
            }
        }
    }
}

fn section(number: usize, workload: &Workload<'_>, facts: &Facts) -> Markup {
    let observations = workload.observations;
    html! {
        section #{ "w" (number) } aria-labelledby={ "t" (number) } {
            h2 #{ "t" (number) } { (said(observations.workload())) }
            (notices(observations))
            dl.figures {
                (figure("destinations", &facts.rows.len().to_string()))
                (figure("runs", &observations.runs().to_string()))
                (figure("connections", &facts.connections().to_string()))
                (figure("from", &moment(facts.first)))
                (figure("to", &moment(facts.last)))
            }
            @if facts.rows.is_empty() {
                p { "Nothing left, or tried to." }
            } @else {
                (flow::figure(number, facts))
                (curve::figure(number, observations))
                (timeline::figure(number, facts))
                (tables::findings(facts))
                @if let Some(judged) = &workload.judged { (tables::drift(judged)) }
                (tables::destinations(facts))
            }
        }
    }
}

/// What a reader has to know before believing the rest.
fn notices(observations: &Observations) -> Markup {
    let incomplete = observations.incomplete();
    html! {
        @if !incomplete.is_empty() {
            div.notice role="note" {
                p { strong { "The evidence is incomplete: a destination may be missing." } }
                ul { @for reason in &incomplete { li { (said(reason)) } } }
            }
        }
        @for (hook, unseen) in observations.missing_hooks() {
            p.notice { "The kernel lacked " (said(hook)) ": " (said(unseen)) }
        }
    }
}

fn figure(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn footer(page: &Page<'_>) -> Markup {
    html! {
        p {
            "Made by egress-tracer " (env!("CARGO_PKG_VERSION"))
            @if let Some(now) = page.now { " on " (moment(Some(now))) }
            ". Times are in UTC. What is observed is not thereby acceptable."
        }
        @if !page.ranges.lists.is_empty() {
            p {
                "Networks as published by "
                @for (at, (provider, date, _)) in page.ranges.lists.iter().enumerate() {
                    @if at > 0 { ", " }
                    (said(provider)) " " (said(date))
                }
                "."
            }
        }
    }
}

/// Text from a log or a policy, in one line and with nothing that steers. The engine escapes it.
fn said(text: &str) -> String {
    plain(text)
}

/// A time to the second.
fn moment(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "unknown".to_owned(), |time| format!("{time:.0}"))
}

/// `1 run`, `2 runs`.
fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The first `length` characters, and a sign that there were more.
fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
