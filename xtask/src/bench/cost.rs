//! What a call costs with the hooks attached: pairs of samples, and a control.
//!
//! Each round takes three samples in random order: untraced, traced by a daemon at the root of
//! the cgroup hierarchy, untraced again. The ratio of the second to the first is the cost; that
//! of the third to the first should be 1, and tells how far the machine itself lies.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{
    figure::Figure,
    rig::{Rig, pause},
    statistics::{Dice, Estimate, estimate, median},
};

/// What is measured, as the load generator calls it; its name in the table; its goal.
const CALLS: [(&str, &str, f64); 5] = [
    ("tcp", "TCP connect+accept+close", 1.12),
    ("sendto", "unconnected UDP sendto", 1.28),
    ("send", "connected UDP send", 1.09),
    ("tls", "TLS connection", 1.03),
    ("process", "process that connects once", 1.0),
];

/// After hooks were attached or detached, until the kernel has cleared up behind them.
const SETTLE: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Untraced,
    Traced,
    Control,
}

/// Nanoseconds of each of [`CALLS`].
type Sample = BTreeMap<String, f64>;

/// The samples of one round.
type Round = BTreeMap<Kind, Sample>;

/// A ratio for each kind of call, and the controls.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let mut dice = Dice::new();
    let mut rounds = Vec::new();
    for number in 0..rig.sizes.pairs {
        rounds.push(round(rig, number, &mut dice)?);
    }
    let costs = CALLS.map(|call| figure(call, &rounds, &mut dice));
    let controls = CALLS.map(|call| control(call, &rounds, &mut dice));
    Ok(costs.into_iter().chain(controls).collect())
}

fn round(rig: &Rig, number: usize, dice: &mut Dice) -> Result<Round> {
    let mut kinds = [Kind::Untraced, Kind::Traced, Kind::Control];
    let mut samples = Round::new();
    dice.shuffle(&mut kinds);
    for (place, kind) in kinds.into_iter().enumerate() {
        let salt = number * kinds.len() + place;
        let taken = match kind {
            Kind::Untraced | Kind::Control => sample(rig, salt)?,
            Kind::Traced => traced(rig, salt)?,
        };
        samples.insert(kind, taken);
    }
    Ok(samples)
}

fn traced(rig: &Rig, salt: usize) -> Result<Sample> {
    let output = tempfile::tempdir()?;
    let daemon = rig.daemon(output.path(), &[])?;
    let sample = sample(rig, salt)?;
    // Its links close with it: once it has ended, nothing is attached.
    daemon.stop()?;
    let log = lab::Log::read(&output.path().join("host/flows.jsonl"))?;
    let seen = log.flows().any(|flow| flow["comm"] == "load-generator");
    ensure!(seen, "the daemon did not see the load");
    Ok(sample)
}

/// On the last core: the first takes most of the interrupts.
fn sample(rig: &Rig, salt: usize) -> Result<Sample> {
    pause(SETTLE)?;
    let core = std::thread::available_parallelism()?.get() - 1;
    let text = lab::output(&mut rig.urgent_load(&format!("cost {core} {salt}")))?;
    let figures = text.lines().map(|line| {
        let (call, time) = line.split_once(' ').context("no figure")?;
        Ok((call.to_owned(), time.parse()?))
    });
    figures.collect()
}

fn figure((call, name, goal): (&str, &str, f64), rounds: &[Round], dice: &mut Dice) -> Figure {
    let Estimate { median, low, high } = ratio(call, Kind::Traced, rounds, dice);
    let [without, with] =
        [Kind::Untraced, Kind::Traced].map(|kind| typical(call, kind, rounds) / 1000.0);
    let measured = format!("× {median:.3} [{low:.3}, {high:.3}], {without:.2} → {with:.2} µs");
    let values = json!({
        "ratio": median, "low": low, "high": high, "goal": goal,
        "untraced_us": without, "traced_us": with, "pairs": rounds.len(),
    });
    let name = format!("{name}, {} pairs", rounds.len());
    // Within the noise is not missed.
    Figure::reported(&name, measured, values).against(format!("× {goal}"), low <= goal)
}

fn control((call, name, _): (&str, &str, f64), rounds: &[Round], dice: &mut Dice) -> Figure {
    let Estimate { median, low, high } = ratio(call, Kind::Control, rounds, dice);
    let measured = format!("× {median:.3} [{low:.3}, {high:.3}]");
    let values = json!({ "ratio": median, "low": low, "high": high });
    Figure::reported(&format!("  control of {name}"), measured, values)
}

/// Of `kind` to untraced, pair by pair.
fn ratio(call: &str, kind: Kind, rounds: &[Round], dice: &mut Dice) -> Estimate {
    let ratios = rounds
        .iter()
        .map(|round| round[&kind][call] / round[&Kind::Untraced][call]);
    estimate(&ratios.collect::<Vec<f64>>(), dice)
}

fn typical(call: &str, kind: Kind, rounds: &[Round]) -> f64 {
    median(rounds.iter().map(|round| round[&kind][call]))
}
