//! Medians and their intervals.

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A median, and where it lies with 95% confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The median of `values` and its bootstrap interval: the middle 95% of the medians of as many
/// values drawn from them, with repetition, again and again.
pub(super) fn estimate(values: &[f64], dice: &mut Dice) -> Estimate {
    let medians =
        (0..RESAMPLES).map(|_| median((0..values.len()).map(|_| values[dice.below(values.len())])));
    let mut medians: Vec<f64> = medians.collect();
    medians.sort_unstable_by(f64::total_cmp);
    Estimate {
        median: median(values.iter().copied()),
        low: medians[RESAMPLES / 40],
        high: medians[RESAMPLES - 1 - RESAMPLES / 40],
    }
}

/// The value in the middle; the mean of two where there are two. There must be one at least.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (half, last) = (values.len() / 2, values.len() - 1);
    f64::midpoint(values[half], values[last - half])
}

/// Random enough for orders and resamples, and the same in every run (xorshift64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// Puts `items` into a random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([7.0].into_iter()), 7.0);
    }

    #[test]
    fn an_interval_holds_its_median_and_ignores_an_outlier() {
        let mut values: Vec<f64> = (0..40).map(|n| 1.0 + f64::from(n) / 1000.0).collect();
        values.push(50.0);
        let Estimate { median, low, high } = estimate(&values, &mut Dice::new());
        assert!(low < median && median < high);
        assert!(high < 1.04, "{high}");
    }

    #[test]
    fn shuffling_keeps_everything() {
        let mut items: Vec<u32> = (0..50).collect();
        Dice::new().shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..50));
    }
}
