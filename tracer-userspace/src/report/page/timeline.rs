//! When each destination was first and last seen.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{
    counted,
    facts::{Facts, Row},
    moment, said,
};

/// Destinations in the picture; the table has all.
const MAX_ROWS: usize = 40;
/// What happened in a moment is as wide as this, in percent.
const NARROWEST: f64 = 0.6;

/// A bar for each destination, from when it was first seen to when it was last.
pub(super) fn figure(number: usize, facts: &Facts) -> Markup {
    let (Some(first), Some(last)) = (facts.first, facts.last) else {
        return html! {
            h3 { "When" }
            p { "The records carry no times." }
        };
    };
    let mut shown: Vec<&Row> = facts.rows.iter().take(MAX_ROWS).collect();
    shown.sort_by_key(|row| (row.seen.first_seen, row.seen.to, row.seen.service.clone()));
    let left_out = facts.rows.len().saturating_sub(MAX_ROWS);
    html! {
        h3 #{ "h" (number) } { "When" }
        figure.timeline {
            p.ends aria-hidden="true" { span { (moment(Some(first))) } span { (moment(Some(last))) } }
            ul aria-labelledby={ "h" (number) } {
                @for row in shown { (bar(row, first, last)) }
            }
            figcaption {
                "From when each was first seen to when it was last, in UTC."
                @if left_out > 0 {
                    " " (counted(left_out, "destination")) " more are in the table only."
                }
            }
        }
    }
}

fn bar(row: &Row, first: Timestamp, last: Timestamp) -> Markup {
    let seen = &row.seen;
    let (begin, end) = (
        seen.first_seen.unwrap_or(first),
        seen.last_seen.unwrap_or(last),
    );
    let from = percent(begin, first, last).min(100.0 - NARROWEST);
    let width = (percent(end, first, last) - from).max(NARROWEST);
    html! {
        li {
            span.label { (said(&row.label)) " " (seen.service) }
            svg.bar aria-hidden="true" focusable="false" {
                rect.track width="100%" height="100%" {}
                rect.span.bad[row.is_bad()] x={ (round(from)) "%" } width={ (round(width)) "%" } height="100%" {}
            }
            span.hidden { "from " (moment(Some(begin))) " to " (moment(Some(end))) }
        }
    }
}

/// Where `time` is between `first` and `last`, 0 to 100.
fn percent(time: Timestamp, first: Timestamp, last: Timestamp) -> f64 {
    let whole = last.duration_since(first).as_secs_f64();
    if whole <= 0.0 {
        return 0.0;
    }
    (time.duration_since(first).as_secs_f64() / whole * 100.0).clamp(0.0, 100.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
