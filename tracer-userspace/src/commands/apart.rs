//! What is no candidate and should not be overlooked, in lines for people.

use crate::{
    output::terminal::escape,
    policy::{Observations, infer},
};

/// Lines of each kind; more are only counted.
const ROWS: usize = 50;

/// What was tried and never succeeded, and what left without an IP address. Escaped.
pub fn lines(observations: &Observations) -> Vec<String> {
    let failed = infer::never_succeeded(observations);
    let failed = failed.iter().map(|failed| {
        let outcomes = failed.outcomes.iter();
        let outcomes: Vec<String> = outcomes
            .map(|(outcome, count)| format!("{} {count}", outcome.word()))
            .collect();
        format!(
            "attempted, never succeeded: {} {} ({})",
            failed.to,
            failed.service,
            outcomes.join(", ")
        )
    });
    let ways = infer::unaddressed(observations);
    let ways = ways.iter().map(|way| {
        format!(
            "left without an IP address, no rule covers it: {} {} ({})",
            way.channel.word(),
            escape(&way.to),
            escape(&way.processes.join(", "))
        )
    });
    let mut lines = first(failed.collect());
    lines.extend(first(ways.collect()));
    lines
}

fn first(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(ROWS);
    lines.truncate(ROWS);
    lines.extend((more > 0).then(|| format!("and {more} more")));
    lines
}
