//! Whether our own recordings were closed in good order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, TryLockError},
};

use crate::{
    policy::workloads::workload_of,
    record::{GapKind, Record},
};

/// The recordings of one file, by workload.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    by_workload: BTreeMap<String, Recording>,
}

#[derive(Debug, Default)]
struct Recording {
    /// Runs with a record after their last `stop`; `rotate` hands all of them to the next segment.
    open: BTreeSet<String>,
    /// How often a run was begun while it was open, and no `gap` has told of it.
    untold: u64,
}

impl Recordings {
    /// Follows one record of ours.
    pub(super) fn follow(&mut self, record: &Record) {
        let workload = workload_of(record);
        match self.by_workload.get_mut(workload) {
            Some(recording) => recording.follow(record),
            None => {
                let mut recording = Recording::default();
                recording.follow(record);
                self.by_workload.insert(workload.to_owned(), recording);
            }
        }
    }

    /// How many recordings were not closed, by workload. `is_held`: the writer is still at work,
    /// so that an open end is as it should be.
    pub(super) fn unclosed(&self, is_held: bool) -> impl Iterator<Item = (&str, u64)> {
        self.by_workload.iter().map(move |(workload, recording)| {
            let open_end = u64::from(!recording.open.is_empty() && !is_held);
            (workload.as_str(), recording.untold + open_end)
        })
    }
}

impl Recording {
    fn follow(&mut self, record: &Record) {
        match record {
            Record::Start(entry) => {
                let is_new = self.open.insert(entry.run.clone());
                self.untold += u64::from(!is_new);
            }
            Record::Flow(entry) => {
                self.open.insert(entry.run.clone());
            }
            Record::Stop(entry) => {
                self.open.remove(&entry.run);
            }
            Record::Rotate(_) => self.open.clear(),
            // Says itself what is missing.
            Record::Gap(entry)
                if matches!(entry.body.what, GapKind::Downtime | GapKind::Replaced) =>
            {
                self.untold = 0;
                self.open.clear();
            }
            Record::Gap(_)
            | Record::Alias(_)
            | Record::Stats(_)
            | Record::Dns(_)
            | Record::Drift(_)
            | Record::Registered(_) => {}
        }
    }
}

/// Whether a writer holds the file: it keeps an exclusive lock on the segment that it writes.
pub(super) fn is_held(file: &File) -> bool {
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => true,
        Ok(()) => {
            // Not for a moment longer: a writer may be about to start. Closing unlocks as well.
            let _ = file.unlock();
            false
        }
        Err(TryLockError::Error(_)) => false,
    }
}
