//! What the runs have not shown: estimates from how many runs each destination was seen in.
//!
//! A run is a sample, and a destination is seen in it or not (incidence data). With `T` runs,
//! `Y_i` the number of runs with destination `i`, `Q1` and `Q2` the destinations seen in exactly
//! one and two runs, and `U` the sum of all `Y_i`:
//!
//! - accumulation: sample-based rarefaction, Mao Tau (Colwell, Mao & Chang 2004, Ecology 85;
//!   Colwell & Coddington 1994, Phil. Trans. R. Soc. B 345);
//! - unseen share: Good–Turing, `Q1 / U` (Good 1953, Biometrika 40);
//! - unseen destinations: Chao2, bias-corrected, with a log-normal interval (Chao 1987,
//!   Biometrics 43; for the bias-corrected form Chao 2005, Encyclopedia of Statistical Sciences);
//! - further runs: Chao, Colwell, Lin & Gotelli 2009, Ecology 90.

use std::collections::BTreeMap;

use serde::Serialize;

/// The 97.5 % point of the normal distribution: two-sided 95 %.
const Z: f64 = 1.96;

/// In how many of the runs each destination was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incidence {
    /// Those without any flow among them.
    pub runs: u64,
    /// How many destinations were seen in so many runs; from 1 to `runs`.
    pub seen_in: BTreeMap<u64, u64>,
}

/// What they say about what was not seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    pub runs: u64,
    pub destinations: u64,
    pub in_one_run: u64,
    pub in_two_runs: u64,
    /// The expected number of destinations after so many of the runs, in any order.
    pub curve: Vec<Point>,
    /// The share of the (run, destination) pairs of a further run that would be new, 0 to 1.
    /// Absent if nothing was seen.
    pub unseen_share: Option<f64>,
    /// Absent with fewer than two runs, which say nothing about others.
    pub estimate: Option<Estimate>,
}

/// One point of the accumulation curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub runs: u64,
    pub destinations: f64,
}

/// How many destinations there are, seen or not. A lower bound where some are far rarer than others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub unseen: f64,
    /// Whole destinations, rounded outwards: the 95 % interval of `unseen`.
    pub unseen_low: u64,
    pub unseen_high: u64,
}

impl Incidence {
    /// From the number of runs of each destination. One of 0 runs belongs to no run: not counted.
    pub fn new(runs: u64, detections: impl IntoIterator<Item = u64>) -> Self {
        let mut seen_in = BTreeMap::new();
        for detected in detections.into_iter().filter(|&detected| detected > 0) {
            *seen_in.entry(detected.min(runs)).or_default() += 1;
        }
        Self { runs, seen_in }
    }

    fn destinations(&self) -> u64 {
        self.seen_in.values().sum()
    }

    /// The sum of all detections.
    fn total(&self) -> u64 {
        self.seen_in
            .iter()
            .map(|(runs, number)| runs * number)
            .sum()
    }

    fn exactly(&self, runs: u64) -> u64 {
        self.seen_in.get(&runs).copied().unwrap_or(0)
    }

    /// Everything that can be said.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let total = self.total();
        Coverage {
            runs: self.runs,
            destinations: self.destinations(),
            in_one_run: self.exactly(1),
            in_two_runs: self.exactly(2),
            curve: self.curve(),
            unseen_share: (total > 0).then(|| self.exactly(1) as f64 / total as f64),
            estimate: (self.runs >= 2 && total > 0).then(|| self.estimate()),
        }
    }

    /// Mao Tau: `S(h) = S − Σ C(T − Y_i, h) / C(T, h)`. The quotient is the probability that `h`
    /// runs drawn from the `T` all miss the destination; each further run multiplies it by
    /// `(T − Y_i − h) / (T − h)`.
    fn curve(&self) -> Vec<Point> {
        let mut missed: Vec<(u64, f64, f64)> = self
            .seen_in
            .iter()
            .map(|(&detected, &number)| (detected, number as f64, 1.0))
            .collect();
        let all = self.destinations() as f64;
        let mut curve = Vec::new();
        for drawn in 0..self.runs {
            for (detected, _, probability) in &mut missed {
                let left = (self.runs - drawn).saturating_sub(*detected);
                *probability *= left as f64 / (self.runs - drawn) as f64;
            }
            let unseen: f64 = missed.iter().map(|(_, number, p)| number * p).sum();
            curve.push(Point {
                runs: drawn + 1,
                destinations: all - unseen,
            });
        }
        curve
    }

    /// Chao2, bias-corrected: `(T−1)/T · Q1(Q1−1) / 2(Q2+1)` destinations are unseen, at least.
    fn estimate(&self) -> Estimate {
        let (q1, q2) = (self.exactly(1) as f64, self.exactly(2) as f64);
        let shrink = (self.runs - 1) as f64 / self.runs as f64;
        let unseen = shrink * q1 * (q1 - 1.0) / (2.0 * (q2 + 1.0));
        let (low, high) = if unseen > 0.0 {
            self.log_normal(unseen, shrink, q1, q2)
        } else {
            (0.0, self.nothing_unseen())
        };
        Estimate {
            unseen: unseen.max(0.0),
            unseen_low: low.max(0.0).floor() as u64,
            unseen_high: high.max(0.0).ceil() as u64,
        }
    }

    /// Chao 1987: `unseen / K` to `unseen · K`, with `K = exp(1.96 √ln(1 + var / unseen²))`. The
    /// variances are those of the bias-corrected estimator.
    fn log_normal(&self, unseen: f64, shrink: f64, q1: f64, q2: f64) -> (f64, f64) {
        let first = shrink * q1 * (q1 - 1.0) / (2.0 * (q2 + 1.0));
        let second = shrink.powi(2) * q1 * (2.0 * q1 - 1.0).powi(2) / (4.0 * (q2 + 1.0).powi(2));
        let third = if q2 > 0.0 {
            shrink.powi(2) * q1.powi(2) * q2 * (q1 - 1.0).powi(2) / (4.0 * (q2 + 1.0).powi(4))
        } else {
            let all = self.destinations() as f64 + unseen;
            -shrink.powi(2) * q1.powi(4) / (4.0 * all)
        };
        let variance = (first + second + third).max(0.0);
        let factor = (Z * (1.0 + variance / unseen.powi(2)).ln().sqrt()).exp();
        (unseen / factor, unseen * factor)
    }

    /// The estimate is 0, and an interval of nothing would claim too much: with detections
    /// distributed as by Poisson, a share `P = Σ Q_i e^(−i) / S` was missed (the interval of
    /// EstimateS and SpadeR for this case). Its upper end; the lower one is the estimate.
    fn nothing_unseen(&self) -> f64 {
        let seen = self.destinations() as f64;
        let sum = |each: &dyn Fn(f64) -> f64| -> f64 {
            self.seen_in
                .iter()
                .map(|(&runs, &number)| number as f64 * each(runs as f64))
                .sum()
        };
        let missed = sum(&|runs| (-runs).exp()) / seen;
        let spread = sum(&|runs| (-runs).exp() - (-2.0 * runs).exp());
        let mean = sum(&|runs| runs * (-runs).exp());
        let variance = (spread - mean.powi(2) / self.runs as f64).max(0.0);
        (seen + Z * variance.sqrt()) / (1.0 - missed) - seen
    }
}

impl Coverage {
    /// About how many further runs until the share `target` (0 to 1) of all destinations, as
    /// estimated, has been seen. `None` where nothing can be estimated, or the whole is asked for.
    ///
    /// `t` further runs are expected to show `f0 (1 − (1 − Q1 / (T f0 + Q1))^t)` of the `f0`
    /// unseen ones; solved for `t`.
    #[must_use]
    pub fn further_runs(&self, target: f64) -> Option<u64> {
        let unseen = self.estimate?.unseen;
        let seen = self.destinations as f64;
        let missing = target * (seen + unseen) - seen;
        if missing <= 0.0 {
            return Some(0);
        }
        if missing >= unseen {
            return None;
        }
        let once = self.in_one_run as f64;
        let rate = once / (self.runs as f64 * unseen + once);
        let runs = (1.0 - missing / unseen).ln() / (1.0 - rate).ln();
        Some(runs.ceil() as u64)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9 * right.abs().max(1.0)
    }

    #[test]
    fn the_figures_are_those_of_the_formulas() {
        // T = 4; Y = 1, 1, 1, 2, 4: Q1 = 3, Q2 = 1, U = 9.
        let coverage = Incidence::new(4, [1, 1, 1, 2, 4]).coverage();
        assert_eq!((coverage.in_one_run, coverage.in_two_runs), (3, 1));
        assert!(close(coverage.unseen_share.unwrap(), 1.0 / 3.0));
        // 3/4 · 3·2 / (2·2)
        let estimate = coverage.estimate.unwrap();
        assert!(close(estimate.unseen, 1.125));
        // 5 − (3·C(3,1) + C(2,1)) / C(4,1), and so on.
        let expected = [
            5.0 - 11.0 / 4.0,
            5.0 - (9.0 + 1.0) / 6.0,
            5.0 - 3.0 / 4.0,
            5.0,
        ];
        for (point, expected) in coverage.curve.iter().zip(expected) {
            assert!(close(point.destinations, expected), "{point:?} {expected}");
        }
        // ln(1 − (0.9·6.125 − 5) / 1.125) / ln(1 − 3 / (4·1.125 + 3)) = 1.18
        assert_eq!(coverage.further_runs(0.9), Some(2));
        assert_eq!(coverage.further_runs(0.5), Some(0));
        assert_eq!(coverage.further_runs(1.0), None);
    }

    #[test]
    fn one_run_says_nothing_about_others() {
        let coverage = Incidence::new(1, [1, 1]).coverage();
        assert_eq!(coverage.estimate, None);
        assert_eq!(coverage.unseen_share, Some(1.0));
        assert_eq!(coverage.further_runs(0.95), None);
        let nothing = Incidence::new(3, []).coverage();
        assert_eq!((nothing.unseen_share, nothing.estimate), (None, None));
    }

    proptest! {
        #[test]
        fn any_incidence_gives_finite_figures(
            runs in 1..60_u64, detections in proptest::collection::vec(0..80_u64, 0..60),
        ) {
            let coverage = Incidence::new(runs, detections).coverage();
            let curve = &coverage.curve;
            prop_assert!(curve.windows(2).all(|pair| pair[0].destinations <= pair[1].destinations + 1e-9));
            prop_assert!(close(curve.last().unwrap().destinations, coverage.destinations as f64));
            if let Some(estimate) = coverage.estimate {
                prop_assert!(estimate.unseen.is_finite());
                prop_assert!(estimate.unseen_low as f64 <= estimate.unseen);
                prop_assert!(estimate.unseen <= estimate.unseen_high as f64);
                prop_assert!(coverage.further_runs(0.9).is_none_or(|runs| runs < 1_000_000));
            }
        }
    }

    /// SplitMix64: the same agents in every test.
    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn between(&mut self, low: f64, high: f64) -> f64 {
            low + self.unit() * (high - low)
        }
    }

    /// An agent whose destinations are each seen in a run with the probability that `chance` gives,
    /// and whether the interval holds how many it really has.
    fn holds(random: &mut Random, chance: impl Fn(&mut Random) -> f64) -> bool {
        let destinations = random.between(20.0, 80.0) as u64;
        let runs = random.between(10.0, 50.0) as u64;
        let detections: Vec<u64> = (0..destinations)
            .map(|_| {
                let probability = chance(random);
                (0..runs).filter(|_| random.unit() < probability).count() as u64
            })
            .collect();
        let coverage = Incidence::new(runs, detections).coverage();
        let unseen = destinations - coverage.destinations;
        coverage
            .estimate
            .is_some_and(|estimate| (estimate.unseen_low..=estimate.unseen_high).contains(&unseen))
    }

    fn held(agents: u32, mut one: impl FnMut(&mut Random) -> bool) -> u32 {
        let mut random = Random(7);
        (0..agents).filter(|_| one(&mut random)).count() as u32
    }

    /// The assumption: within an agent, destinations are equally likely in each run.
    #[test]
    fn the_interval_holds_the_truth_of_simulated_agents() {
        let held = held(1000, |random| {
            let probability = random.between(0.03, 0.3);
            holds(random, |_| probability)
        });
        println!("the 95 % interval held the truth for {held} of 1000 agents");
        assert!(held >= 900, "{held} of 1000");
    }

    /// What the documentation warns of: with paths that few runs take, it is a lower bound.
    #[test]
    fn very_rare_destinations_make_it_a_lower_bound() {
        let held = held(1000, |random| {
            holds(
                random,
                |random| {
                    if random.unit() < 0.7 { 0.6 } else { 0.002 }
                },
            )
        });
        println!("with rare destinations it held the truth for {held} of 1000 agents");
        assert!(
            held < 900,
            "{held} of 1000: then the documentation is wrong"
        );
    }
}
