//! What holding answers costs whoever waits for them: the test of rules by name takes the times.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{figure::Figure, rig::Rig};
use crate::shell::{ask, cargo};

/// What the test prints its times after: median and 99th percentile, held, then without anything.
const MARK: &str = "TIMES ";
/// The 99th percentile may rise by so many milliseconds.
const GOAL_MS: f64 = 5.0;

/// 10,000 times ask and connect, and as often without a companion or rules, by turns.
pub(super) fn measure(_rig: &Rig) -> Result<Vec<Figure>> {
    let line = "test --release --package tracer-userspace --test names no_first_syn -- --nocapture";
    let mut test = cargo(line);
    let said = ask(test.env("EGRESS_TRACER_TIMES", "1"));
    let said = said.context("the test of rules by name fails: cargo xtask test")?;
    let times = said.lines().find_map(|line| line.split_once(MARK));
    let times: Vec<f64> = times
        .map_or("", |(_, times)| times)
        .split(['[', ']', ',', ' '])
        .filter(|word| !word.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [held_median, held, bare_median, bare] = times[..] else {
        anyhow::bail!("the test of rules by name took no times (as root, with dumpcap and nft?)");
    };
    let rise = held - bare;
    let median = Figure::reported(
        "ask and connect with answers held, median",
        format!("{bare_median:.2} → {held_median:.2} ms"),
        json!({ "bare_ms": bare_median, "held_ms": held_median }),
    );
    let p99 = Figure::reported(
        "  99th percentile, no SYN sent twice in 10000",
        format!("{bare:.2} → {held:.2} ms"),
        json!({ "bare_ms": bare, "held_ms": held, "rise_ms": rise }),
    );
    Ok(vec![
        median,
        p99.against(format!("+ {GOAL_MS} ms"), rise < GOAL_MS),
    ])
}
