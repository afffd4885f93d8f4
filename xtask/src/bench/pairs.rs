//! Pairs of samples, and a control.
//!
//! Each round takes three samples in random order: untraced, traced, untraced again. The ratio of
//! the second to the first is the cost; that of the third to the first should be 1, and tells how
//! far the machine itself lies.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    rig::pause,
    statistics::{Dice, Estimate, estimate, median},
};

/// After hooks were attached or detached, until the kernel has cleared up behind them.
const SETTLE: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Untraced,
    Traced,
    Control,
}

/// Nanoseconds of each kind of call.
pub(super) type Sample = BTreeMap<String, f64>;

/// The samples of one round.
pub(super) type Round = BTreeMap<Kind, Sample>;

/// Takes so many rounds. `untraced` and `traced` take one sample each, and are given a number that
/// no other sample has.
pub(super) fn rounds(
    count: usize,
    dice: &mut Dice,
    untraced: &dyn Fn(usize) -> Result<Sample>,
    traced: &dyn Fn(usize) -> Result<Sample>,
) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 0..count {
        let mut kinds = [Kind::Untraced, Kind::Traced, Kind::Control];
        let mut round = Round::new();
        dice.shuffle(&mut kinds);
        for (place, kind) in kinds.into_iter().enumerate() {
            let salt = number * kinds.len() + place;
            pause(SETTLE)?;
            let sample = match kind {
                Kind::Untraced | Kind::Control => untraced(salt)?,
                Kind::Traced => traced(salt)?,
            };
            round.insert(kind, sample);
        }
        rounds.push(round);
    }
    Ok(rounds)
}

/// What the load generator printed: a line for each kind of call.
pub(super) fn sample(text: &str) -> Result<Sample> {
    let figures = text.lines().map(|line| {
        let (call, time) = line.split_once(' ').context("no figure")?;
        Ok((call.to_owned(), time.parse()?))
    });
    figures.collect()
}

/// Of `kind` to untraced, pair by pair.
pub(super) fn ratio(call: &str, kind: Kind, rounds: &[Round], dice: &mut Dice) -> Estimate {
    let ratios = rounds
        .iter()
        .map(|round| round[&kind][call] / round[&Kind::Untraced][call]);
    estimate(&ratios.collect::<Vec<f64>>(), dice)
}

/// Microseconds of a call of `kind`.
pub(super) fn typical(call: &str, kind: Kind, rounds: &[Round]) -> f64 {
    median(rounds.iter().map(|round| round[&kind][call])) / 1000.0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_kind_and_every_sample_its_own_number() {
        let mut dice = Dice::new();
        let untraced = |salt| sample(&format!("tcp 1000\nseen {salt}"));
        let traced = |salt| sample(&format!("tcp 1200\nseen {salt}"));
        let rounds = rounds(3, &mut dice, &untraced, &traced).unwrap();
        let mut salts: Vec<f64> = rounds
            .iter()
            .flat_map(|round| round.values().map(|sample| sample["seen"]))
            .collect();
        salts.sort_by(f64::total_cmp);
        assert!(salts.into_iter().eq((0..9).map(f64::from)));
        let traced = ratio("tcp", Kind::Traced, &rounds, &mut dice);
        assert_eq!((traced.median, traced.low, traced.high), (1.2, 1.2, 1.2));
        assert_eq!(typical("tcp", Kind::Control, &rounds), 1.0);
    }
}
