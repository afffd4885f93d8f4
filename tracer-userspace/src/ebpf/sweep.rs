//! The flow table's counts, taken out without losing one.
//!
//! Two hash maps take turns: programs write to the one that is installed in the one-slot outer
//! map. Installing the other waits for the programs that still write to the first, which then
//! nobody can reach, so that it can be read and emptied at leisure. Looking up and deleting in a
//! table that is being written to would lose every count between the two.

use std::{
    io, mem,
    os::fd::{AsFd as _, OwnedFd},
};

use tracer_common::{
    flow::{FlowKey, FlowValue},
    limits::{CgroupQuota, State},
};

use super::sys::{self, Batch};

/// The flow tables of one loaded object.
#[derive(Debug)]
pub struct FlowTables {
    outer: OwnedFd,
    state: OwnedFd,
    /// Installed: programs write here.
    live: OwnedFd,
    /// Empty, waiting for its turn.
    spare: OwnedFd,
    generation: u64,
}

impl FlowTables {
    /// Installs the first of two empty tables.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn install(outer: OwnedFd, state: OwnedFd, tables: [OwnedFd; 2]) -> io::Result<Self> {
        let [live, spare] = tables;
        sys::install(outer.as_fd(), live.as_fd())?;
        Ok(Self {
            outer,
            state,
            live,
            spare,
            generation: 0,
        })
    }

    /// Takes everything that was counted since the last sweep out of the kernel.
    ///
    /// # Errors
    /// A system call fails. What was already read is returned with the next sweep at the latest:
    /// entries leave the table only together with being handed out.
    pub fn sweep(&mut self, each: impl FnMut(&FlowKey, &FlowValue)) -> io::Result<()> {
        self.generation += 1;
        // Before the swap: a key that still goes to the old table then counts towards the new
        // quota, which errs on the strict side by a handful.
        let state = State {
            generation: self.generation,
            last_wake_ns: 0,
        };
        sys::update(self.state.as_fd(), &0_u32, &state)?;
        sys::install(self.outer.as_fd(), self.spare.as_fd())?;
        mem::swap(&mut self.live, &mut self.spare);
        sys::read_all(self.spare.as_fd(), Batch::Take, each)
    }

    /// Which table is installed, counted from 0.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// One cgroup's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub cgroup_id: u64,
    pub used: u64,
    pub refused: u64,
}

/// Every cgroup's counters; `used` is 0 where it is about an earlier table.
///
/// # Errors
/// A system call fails.
pub fn read_quotas(map: &OwnedFd, generation: u64) -> io::Result<Vec<Quota>> {
    let mut quotas = Vec::new();
    sys::read_all(
        map.as_fd(),
        Batch::Look,
        |cgroup_id: &u64, quota: &CgroupQuota| {
            let used = if quota.generation == generation {
                quota.used
            } else {
                0
            };
            quotas.push(Quota {
                cgroup_id: *cgroup_id,
                used,
                refused: quota.refused,
            });
        },
    )?;
    Ok(quotas)
}
