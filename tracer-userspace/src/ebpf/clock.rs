//! `Clock`: the kernel's times as times of day, whoever sets the clock meanwhile.

use std::collections::VecDeque;

use nix::time::{ClockId, clock_gettime};

/// Two samples that lie no further apart than this, in nanoseconds, are of one clock.
const STEP_NS: i128 = 1_000_000;

/// How often the clock may have been set since the oldest time that is asked for.
const MAX_SETTINGS: usize = 64;

/// The kernel's clocks against the wall, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    monotonic_ns: i128,
    boot_ns: i128,
    wall_ns: i128,
}

/// CLOCK_MONOTONIC, nanoseconds.
#[must_use]
pub fn monotonic_now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|time| time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
        .unwrap_or_default()
}

impl ClockSample {
    /// Samples both clocks now.
    #[must_use]
    pub fn now() -> Self {
        let read = |clock| {
            clock_gettime(clock)
                .map(|time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
                .unwrap_or_default()
        };
        Self {
            monotonic_ns: read(ClockId::CLOCK_MONOTONIC),
            boot_ns: read(ClockId::CLOCK_BOOTTIME),
            wall_ns: read(ClockId::CLOCK_REALTIME),
        }
    }

    /// The wall-clock time of a CLOCK_BOOTTIME time in nanoseconds, as processes' starts are told.
    #[must_use]
    pub fn wall_of_boot(&self, boot_ns: u64) -> jiff::Timestamp {
        let nanoseconds = self.wall_ns + i128::from(boot_ns) - self.boot_ns;
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
    }

    /// What to add to a CLOCK_MONOTONIC time.
    fn offset(&self) -> i128 {
        self.wall_ns - self.monotonic_ns
    }

    /// When it was taken, in nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.monotonic_ns).unwrap_or(0)
    }
}

/// The wall clock over time. What the kernel saw before somebody set the clock, or before the machine
/// slept, is told by the clock as it was then.
#[derive(Clone, Debug)]
pub struct Clock {
    last: ClockSample,
    /// From which CLOCK_MONOTONIC time on, and what to add to such a time; oldest first.
    settings: VecDeque<(i128, i128)>,
}

impl Clock {
    /// One that has always been as it is in this sample.
    #[must_use]
    pub fn new(sample: ClockSample) -> Self {
        Self {
            last: sample,
            settings: VecDeque::from([(0, sample.offset())]),
        }
    }

    /// Takes in how the clock is by now.
    pub fn take(&mut self, sample: ClockSample) {
        // Samples come by two ways, and may have overtaken each other.
        if sample.monotonic_ns < self.last.monotonic_ns {
            return;
        }
        self.last = sample;
        let known = self.settings.back().map(|(_, offset)| *offset);
        if known.is_some_and(|known| (known - sample.offset()).abs() < STEP_NS) {
            return;
        }
        if self.settings.len() == MAX_SETTINGS {
            self.settings.pop_front();
        }
        self.settings
            .push_back((sample.monotonic_ns, sample.offset()));
    }

    /// The wall-clock time of a CLOCK_MONOTONIC time in nanoseconds.
    #[must_use]
    pub fn wall(&self, monotonic_ns: u64) -> jiff::Timestamp {
        let at = i128::from(monotonic_ns);
        let mut newest_first = self.settings.iter().rev();
        let in_force = newest_first.find(|(from, _)| *from <= at);
        let in_force = in_force.or_else(|| self.settings.front());
        let offset = in_force.map_or_else(|| self.last.offset(), |(_, offset)| *offset);
        jiff::Timestamp::from_nanosecond(at + offset).unwrap_or_default()
    }

    /// The wall-clock time of a CLOCK_BOOTTIME time, by the newest sample.
    #[must_use]
    pub fn wall_of_boot(&self, boot_ns: u64) -> jiff::Timestamp {
        self.last.wall_of_boot(boot_ns)
    }

    /// When the newest sample was taken, in nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        self.last.monotonic_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;
    const HOUR: i128 = 3600 * SECOND;

    /// At this many seconds of CLOCK_MONOTONIC; `ahead` is what the wall clock is ahead of that.
    fn sample(seconds: i128, ahead: i128) -> ClockSample {
        ClockSample {
            monotonic_ns: seconds * SECOND,
            boot_ns: seconds * SECOND,
            wall_ns: seconds * SECOND + ahead,
        }
    }

    fn wall(clock: &Clock, seconds: u64) -> i128 {
        clock.wall(seconds * 1_000_000_000).as_nanosecond()
    }

    #[test]
    fn what_was_before_the_clock_was_set_keeps_its_time() {
        let mut clock = Clock::new(sample(10, 5 * HOUR));
        for seconds in 11..20 {
            clock.take(sample(seconds, 5 * HOUR));
        }
        clock.take(sample(20, 4 * HOUR));
        assert_eq!(wall(&clock, 19), 19 * SECOND + 5 * HOUR);
        assert_eq!(wall(&clock, 20), 20 * SECOND + 4 * HOUR);
        assert_eq!(wall(&clock, 1), SECOND + 5 * HOUR);
    }

    /// A suspended machine, or one that was kept as a snapshot: CLOCK_MONOTONIC stands still.
    #[test]
    fn a_machine_that_slept_does_not_shift_what_was_before() {
        let mut clock = Clock::new(sample(10, HOUR));
        clock.take(sample(11, 3 * HOUR));
        assert_eq!(wall(&clock, 10), 10 * SECOND + HOUR);
        assert_eq!(wall(&clock, 12), 12 * SECOND + 3 * HOUR);
    }

    #[test]
    fn a_clock_that_is_set_without_end_takes_no_room_without_end() {
        let mut clock = Clock::new(sample(1, 0));
        for seconds in 2..1000 {
            clock.take(sample(seconds, seconds * HOUR));
        }
        assert_eq!(clock.settings.len(), MAX_SETTINGS);
        assert_eq!(wall(&clock, 999), 999 * SECOND + 999 * HOUR);
    }

    #[test]
    fn a_sample_that_was_overtaken_sets_nothing_back() {
        let mut clock = Clock::new(sample(10, HOUR));
        clock.take(sample(12, 2 * HOUR));
        clock.take(sample(11, HOUR));
        assert_eq!(wall(&clock, 13), 13 * SECOND + 2 * HOUR);
    }
}
