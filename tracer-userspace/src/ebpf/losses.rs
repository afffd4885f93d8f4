//! `Losses`: what the kernel counted as lost.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::util::nr_cpus;
use serde::{Deserialize, Serialize};
use tracer_common::limits::loss;

use super::{load::Loaded, sweep::read_quotas, sys};

/// Totals since loading; they only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// By `tracer_common::limits::loss`.
    pub by_reason: [u64; loss::COUNT as usize],
    /// Observations refused, by cgroup id (0: cgroups beyond the table of quotas).
    pub refused: HashMap<u64, u64>,
    /// The same for cgroups that are gone and whose last refusals are told.
    #[serde(default)]
    pub refused_to_gone: u64,
    /// Observations refused that no cgroup accounts for.
    pub unattributed: u64,
    pub undecodable: u64,
}

impl Losses {
    /// Observations refused, all together.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.by_reason[loss::TABLE_FULL as usize] + self.by_reason[loss::QUOTA_FULL as usize]
    }

    /// Forks, execs and exits that were not told.
    #[must_use]
    pub fn processes(&self) -> u64 {
        self.by_reason[loss::PROCESS_RING_FULL as usize]
    }

    /// Takes in what was read: first `by_reason`, then `refused`. A cgroup's counter goes up
    /// before the sum does, so that the sum never exceeds them for want of a moment; the other
    /// way round, refusals between the two readings are no news the next time either.
    pub fn settle(&mut self) {
        let attributed = self.refused.values().sum::<u64>() + self.refused_to_gone;
        let rest = self.all_refused().saturating_sub(attributed);
        self.unattributed = self.unattributed.max(rest);
    }

    /// Forgets a cgroup that is gone, whose refusals an earlier reading has told.
    pub(super) fn forget(&mut self, cgroup_id: u64) {
        self.refused_to_gone += self.refused.remove(&cgroup_id).unwrap_or(0);
    }
}

/// The kernel's counters: an array of totals, each with a value for each CPU.
#[derive(Debug)]
pub struct LossMap {
    map: OwnedFd,
    /// That the machine may have.
    cpus: usize,
}

impl LossMap {
    /// Finds out how many CPUs there may be, which takes a file: later there may be no descriptor
    /// left for one.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn new(map: OwnedFd) -> io::Result<Self> {
        let cpus = nr_cpus().map_err(|(path, error)| {
            io::Error::new(error.kind(), format!("cannot read {path}: {error}"))
        })?;
        Ok(Self { map, cpus })
    }
}

/// What was lost since the maps were made.
///
/// # Errors
/// A map cannot be read.
pub fn losses_so_far(loaded: &Loaded) -> io::Result<Losses> {
    let mut losses = Losses {
        by_reason: read_losses(loaded)?,
        ..Losses::default()
    };
    for quota in read_quotas(&loaded.quotas, loaded.tables.generation())? {
        losses.refused.insert(quota.cgroup_id, quota.refused);
    }
    losses.settle();
    Ok(losses)
}

/// The totals by reason.
pub(super) fn read_losses(loaded: &Loaded) -> io::Result<[u64; loss::COUNT as usize]> {
    let mut totals = [0; loss::COUNT as usize];
    for (reason, total) in (0_u32..).zip(&mut totals) {
        let LossMap { map, cpus } = &loaded.losses;
        *total = sys::per_cpu(map.as_fd(), reason, *cpus)?.iter().sum();
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_to_cgroups_that_are_gone_stays_accounted_for() {
        let mut losses = Losses::default();
        losses.by_reason[loss::QUOTA_FULL as usize] = 12;
        losses.refused = [(7, 5), (8, 7)].into();
        losses.settle();
        losses.forget(7);
        losses.forget(9);
        losses.settle();
        assert_eq!(losses.unattributed, 0);
        assert_eq!(losses.refused, [(8, 7)].into());
    }
}
