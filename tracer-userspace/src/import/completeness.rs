//! Whether our own recordings were closed in good order.

use std::{
    collections::BTreeMap,
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
    /// Something was recorded after the last `rotate` or `stop`.
    is_open: bool,
    /// How often a `start` came while the recording was open, and no `gap` has told of it.
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
            let open_end = u64::from(recording.is_open && !is_held);
            (workload.as_str(), recording.untold + open_end)
        })
    }
}

impl Recording {
    fn follow(&mut self, record: &Record) {
        match record {
            Record::Start(_) => {
                self.untold += u64::from(self.is_open);
                self.is_open = true;
            }
            Record::Gap(entry) => {
                if entry.body.what == GapKind::Downtime {
                    self.untold = 0;
                }
                self.is_open = true;
            }
            Record::Flow(_) | Record::Alias(_) | Record::Stats(_) => self.is_open = true,
            Record::Rotate(_) | Record::Stop(_) => self.is_open = false,
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
