//! The coverage curve: how many destinations so many runs have shown, and how many there may be.

use maud::{Markup, html};

use crate::{
    analysis::coverage::{Coverage, Estimate, Incidence, Point},
    policy::Observations,
};

/// The drawing area, of 360 × 200.
const LEFT: f64 = 34.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 172.0;
/// Points of the line; more cannot be told apart.
const MAX_POINTS: usize = 160;
/// An interval that goes beyond so many times what was seen is cut in the picture.
const HEADROOM: f64 = 2.0;

struct Scale {
    runs: f64,
    most: f64,
}

impl Scale {
    fn x(&self, runs: f64) -> f64 {
        let share = if self.runs > 1.0 {
            (runs - 1.0) / (self.runs - 1.0)
        } else {
            1.0
        };
        LEFT + share * (RIGHT - LEFT)
    }

    fn y(&self, destinations: f64) -> f64 {
        let share = (destinations / self.most).clamp(0.0, 1.0);
        BOTTOM - share * (BOTTOM - TOP)
    }
}

/// The curve, its estimate, and both in words.
pub(super) fn figure(number: usize, observations: &Observations) -> Markup {
    let detections = observations
        .destinations()
        .map(|(_, seen)| seen.runs.len() as u64);
    let coverage = Incidence::new(observations.runs() as u64, detections).coverage();
    html! {
        h3 { "What the runs have not shown yet" }
        @match coverage.estimate {
            Some(estimate) => (drawn(number, &coverage, estimate)),
            None => p { "One run says nothing about others: record more to estimate what is unseen." },
        }
    }
}

fn drawn(number: usize, coverage: &Coverage, estimate: Estimate) -> Markup {
    let seen = coverage.destinations as f64;
    let high = seen + (estimate.unseen_high as f64).min(HEADROOM * seen);
    let scale = Scale {
        runs: coverage.runs as f64,
        most: high.max(seen + estimate.unseen).max(1.0),
    };
    html! {
        figure {
            svg.curve role="img" aria-labelledby={ "c" (number) } viewBox="0 0 360 200" {
                title #{ "c" (number) } { "Destinations seen, by number of runs" }
                (band(&scale, seen, estimate))
                path.axis fill="none" d={ "M" (LEFT) " " (TOP) "V" (BOTTOM) "H" (RIGHT) } {}
                path.seen fill="none" d=(line(&scale, &coverage.curve)) {}
                (ticks(&scale, coverage.runs))
            }
            figcaption { (words(coverage, estimate)) }
        }
    }
}

/// The 95 % interval of how many there are, and the estimate in it.
fn band(scale: &Scale, seen: f64, estimate: Estimate) -> Markup {
    let top = scale.y(seen + estimate.unseen_high as f64);
    let bottom = scale.y(seen + estimate.unseen_low as f64);
    let middle = scale.y(seen + estimate.unseen);
    html! {
        rect.band x=(LEFT) y=(round(top)) width=(RIGHT - LEFT) height=(round(bottom - top)) {}
        path.estimate fill="none" d={ "M" (LEFT) " " (round(middle)) "H" (RIGHT) } {}
    }
}

fn line(scale: &Scale, curve: &[Point]) -> String {
    let step = curve.len().div_ceil(MAX_POINTS).max(1);
    let is_shown = |at: usize| at.is_multiple_of(step) || at + 1 == curve.len();
    let shown = curve.iter().enumerate().filter(|(at, _)| is_shown(*at));
    let mut path = String::new();
    for (at, (_, point)) in shown.enumerate() {
        let (x, y) = (scale.x(point.runs as f64), scale.y(point.destinations));
        let verb = if at == 0 { 'M' } else { 'L' };
        path += &format!("{verb}{} {}", round(x), round(y));
    }
    path
}

fn ticks(scale: &Scale, runs: u64) -> Markup {
    let half = (scale.most / 2.0).round();
    html! {
        @for value in [0.0, half, scale.most.floor()] {
            text x=(LEFT - 4.0) y=(round(scale.y(value) + 4.0)) text-anchor="end" { (value) }
        }
        text x=(LEFT) y=(BOTTOM + 14.0) { "1" }
        text x=(RIGHT) y=(BOTTOM + 14.0) text-anchor="end" { (runs) }
        text x=((LEFT + RIGHT) / 2.0) y=(BOTTOM + 24.0) text-anchor="middle" { "runs" }
    }
}

fn words(coverage: &Coverage, estimate: Estimate) -> String {
    let share = coverage.unseen_share.unwrap_or(0.0) * 100.0;
    let further = match coverage.further_runs(0.95) {
        Some(0) => "95 % of them are seen by now".to_owned(),
        Some(runs) => format!("about {runs} further run(s) until 95 % of them are seen"),
        None => "how many further runs are needed is unknown".to_owned(),
    };
    format!(
        "Line: destinations seen after so many of the {} runs, in any order: {} in the end. Dashed: \
         the estimate of how many there are, {:.1} of them unseen; shaded: its 95 % interval, {} to \
         {} unseen. {share:.1} % of what a further run does is new; {further}. {} in one run only, {} \
         in two. It is a lower bound where some paths are far rarer than others.",
        coverage.runs,
        coverage.destinations,
        estimate.unseen,
        estimate.unseen_low,
        estimate.unseen_high,
        coverage.in_one_run,
        coverage.in_two_runs,
    )
}

/// Two decimals: more only make the page larger.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
