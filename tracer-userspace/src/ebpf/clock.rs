//! `ClockSample`: the kernel's times as times of day.

use nix::time::{ClockId, clock_gettime};

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

    /// The wall-clock time of a CLOCK_MONOTONIC time in nanoseconds.
    #[must_use]
    pub fn wall(&self, monotonic_ns: u64) -> jiff::Timestamp {
        let nanoseconds = self.wall_ns + i128::from(monotonic_ns) - self.monotonic_ns;
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
    }

    /// The wall-clock time of a CLOCK_BOOTTIME time in nanoseconds, as processes' starts are told.
    #[must_use]
    pub fn wall_of_boot(&self, boot_ns: u64) -> jiff::Timestamp {
        let nanoseconds = self.wall_ns + i128::from(boot_ns) - self.boot_ns;
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
    }

    /// When it was taken, in nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.monotonic_ns).unwrap_or(0)
    }
}
