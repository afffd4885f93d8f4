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

use super::{
    objects,
    sys::{self, Batch},
};

/// The flow tables of one loaded object.
#[derive(Debug)]
pub struct FlowTables {
    outer: OwnedFd,
    state: OwnedFd,
    /// Installed: programs write here.
    live: OwnedFd,
    /// The other one: what was swept last, until it is emptied.
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

    /// Goes on with tables that programs are writing to.
    ///
    /// # Errors
    /// A system call fails, or neither of them is installed.
    pub fn adopt(outer: OwnedFd, state: OwnedFd, tables: [OwnedFd; 2]) -> io::Result<Self> {
        // The kernel answers with the inner map's id.
        let installed: Option<u32> = sys::lookup(outer.as_fd(), &0_u32)?;
        let [a, b] = tables;
        let ids = [&a, &b].map(|table| objects::map_info(table.as_fd()));
        let [id_a, id_b] = [ids[0].as_ref(), ids[1].as_ref()].map(|id| id.ok().map(|(id, _)| *id));
        let (live, spare) = match installed {
            None => return Err(io::Error::other("no flow table is installed")),
            Some(_) if installed == id_a => (a, b),
            Some(_) if installed == id_b => (b, a),
            Some(_) => return Err(io::Error::other("a foreign flow table is installed")),
        };
        let known: Option<State> = sys::lookup(state.as_fd(), &0_u32)?;
        Ok(Self {
            outer,
            state,
            live,
            spare,
            generation: known.unwrap_or_default().generation,
        })
    }

    /// Installs the other table, which must be empty, and reads what was counted since the last
    /// sweep. It stays there until [`Self::empty`].
    ///
    /// # Errors
    /// A system call fails.
    pub fn sweep(&mut self, each: impl FnMut(&FlowKey, &FlowValue)) -> io::Result<()> {
        // Before the swap: a key that still goes to the old table then counts towards the new
        // quota, which errs on the strict side by a handful.
        self.raise_generation()?;
        sys::install(self.outer.as_fd(), self.spare.as_fd())?;
        mem::swap(&mut self.live, &mut self.spare);
        self.read_swept(each)
    }

    /// Reads what was swept last and is not emptied yet.
    ///
    /// # Errors
    /// A system call fails.
    pub fn read_swept(&self, each: impl FnMut(&FlowKey, &FlowValue)) -> io::Result<()> {
        sys::read_all(self.spare.as_fd(), Batch::Look, each)
    }

    /// Reads what was counted since the last sweep, and leaves it: only right once nothing is
    /// attached any more.
    ///
    /// # Errors
    /// A system call fails.
    pub fn read_live(&self, each: impl FnMut(&FlowKey, &FlowValue)) -> io::Result<()> {
        sys::read_all(self.live.as_fd(), Batch::Look, each)
    }

    /// Empties what was swept last: it is in safe hands.
    ///
    /// # Errors
    /// A system call fails; what is still there is emptied the next time.
    pub fn empty(&self) -> io::Result<()> {
        sys::read_all(
            self.spare.as_fd(),
            Batch::Take,
            |_: &FlowKey, _: &FlowValue| {},
        )
    }

    /// Counts a sweep that no journal has: whoever adopts these tables sees that one is missing.
    ///
    /// # Errors
    /// A system call fails.
    pub fn raise_generation(&mut self) -> io::Result<()> {
        self.generation += 1;
        let state = State {
            generation: self.generation,
            last_wake_ns: 0,
        };
        sys::update(self.state.as_fd(), &0_u32, &state)
    }

    /// Number of the last sweep.
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
