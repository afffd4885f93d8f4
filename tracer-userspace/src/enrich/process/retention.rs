//! Which processes to forget: those whose flows are all told, and under want of memory those that
//! have ended, then the oldest.

use std::collections::HashMap;

use super::{
    ProcessId,
    table::{Entry, Processes},
};

/// How long flows may wait in userspace for their container's name, and a margin.
const PATIENCE_NS: u64 = 10_000_000_000;

/// A process's place in the order of forgetting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    standing: Standing,
    /// Who came into this standing first goes first.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has ended, and nothing was seen of it so far.
    Ended,
    /// It has ended, and its flows are on their way.
    Sent,
    Running,
}

impl Processes {
    /// Every flow up to `began_ns` (CLOCK_MONOTONIC) has been taken out of the kernel.
    pub fn swept(&mut self, began_ns: u64) {
        self.forget_while(|standing, exited| standing == Standing::Ended && exited < began_ns);
    }

    /// Every flow of that sweep was told, but for those that wait for a name.
    pub fn told(&mut self, began_ns: u64) {
        let before = self.told_ns[0].min(began_ns.saturating_sub(PATIENCE_NS));
        self.told_ns = [self.told_ns[1], began_ns];
        self.forget_while(|standing, exited| standing <= Standing::Sent && exited < before);
        for entry in self.by_pid.values_mut().flatten() {
            entry.forget_images(before);
        }
    }

    /// Processes forgotten too early since the last call, by cgroup id.
    pub fn take_evicted(&mut self) -> HashMap<u64, u64> {
        std::mem::take(&mut self.evicted)
    }

    /// The same altogether.
    #[must_use]
    pub fn all_evicted(&self) -> u64 {
        self.all_evicted
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.meter.bytes()
    }

    pub(super) fn make_room(&mut self) {
        while self.meter.bytes() > self.limit
            && let Some((_, id)) = self.ranks.pop_first()
        {
            if let Some(entry) = self.remove(id) {
                self.count_evicted(entry.cgroup_id);
            }
        }
    }

    pub(super) fn count_evicted(&mut self, cgroup_id: u64) {
        *self.evicted.entry(cgroup_id).or_default() += 1;
        self.all_evicted += 1;
    }

    pub(super) fn keep_for_flows(&mut self, id: ProcessId) {
        if let Some(entry) = self.find(id)
            && !entry.has_flows
        {
            entry.has_flows = true;
            self.rank_again(id);
        }
    }

    pub(super) fn new_rank(&mut self, id: ProcessId) -> Rank {
        self.next_rank += 1;
        let rank = Rank {
            standing: Standing::Running,
            since: self.next_rank,
        };
        self.ranks.insert(rank, id);
        rank
    }

    pub(super) fn rank_again(&mut self, id: ProcessId) {
        self.next_rank += 1;
        let since = self.next_rank;
        let Some(entry) = self.find(id) else { return };
        let standing = match (entry.exited_ns, entry.has_flows) {
            // Whoever runs stays where it was.
            (None, _) => return,
            (Some(_), false) => Standing::Ended,
            (Some(_), true) => Standing::Sent,
        };
        let rank = Rank { standing, since };
        let before = std::mem::replace(&mut entry.rank, rank);
        self.ranks.remove(&before);
        self.ranks.insert(rank, id);
    }

    /// From the first on, those that have ended.
    fn forget_while(&mut self, may_go: impl Fn(Standing, u64) -> bool) {
        while let Some((rank, id)) = self.ranks.first_key_value() {
            let (rank, id) = (*rank, *id);
            let exited = self.find(id).and_then(|entry| entry.exited_ns);
            if !exited.is_none_or(|exited| may_go(rank.standing, exited))
                || rank.standing == Standing::Running
            {
                return;
            }
            self.ranks.remove(&rank);
            self.remove(id);
        }
    }

    fn remove(&mut self, id: ProcessId) -> Option<Entry> {
        let entries = self.by_pid.get_mut(&id.pid)?;
        let place = entries.iter().position(|entry| entry.id == id)?;
        let entry = entries.swap_remove(place);
        if entries.is_empty() {
            self.by_pid.remove(&id.pid);
        }
        Some(entry)
    }
}

impl Entry {
    /// Forgets programs that it had already left at `before`.
    fn forget_images(&mut self, before: u64) {
        let left = self
            .images
            .partition_point(|(since, _)| *since <= before)
            .saturating_sub(1);
        self.images.drain(..left);
    }
}
