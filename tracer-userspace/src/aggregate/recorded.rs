//! One workload in the recorder's hands: opened, written out, ended and given back.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    account::Mark,
    recorder::{Output, Settings},
    workload::{Workload, WorkloadError},
};
use crate::record::{Record, Stats};

/// A workload, and when it last told the counters.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) workload: Workload,
    pub(super) last_run: Arc<str>,
    /// Runs whose cgroup is gone, with their last flows perhaps still in the kernel.
    pub(super) ending: Vec<Arc<str>>,
    pub(super) told_stats: Option<Instant>,
}

impl Recorded {
    pub(super) fn open(
        settings: &Settings,
        name: &Arc<str>,
        run: &Arc<str>,
        mark: Option<&Mark>,
    ) -> Result<Self, WorkloadError> {
        let Settings {
            host,
            keeping,
            continuity,
            ..
        } = settings;
        let (name, host) = (name.clone(), host.clone());
        let directory = match &settings.output {
            Output::Memory => None,
            Output::Flat(directory) => Some(directory.clone()),
            Output::PerWorkload(root) => Some(root.join(&*name)),
        };
        let workload = match directory {
            Some(directory) => {
                Workload::on_disk(name, host, &directory, *keeping, continuity, mark)?
            }
            None => Workload::in_memory(name, host, keeping.max_destinations),
        };
        Ok(Self {
            workload,
            last_run: run.clone(),
            ending: Vec::new(),
            told_stats: None,
        })
    }

    pub(super) fn tell_stats(&mut self, counters: &BTreeMap<String, u64>) {
        let body = Stats {
            counters: counters.clone(),
        };
        let record = Record::Stats(self.workload.envelope(&self.last_run, body));
        self.workload.tell(&record);
    }

    /// Ends the runs whose containers are gone, now that their last flows are told.
    pub(super) fn end_runs(&mut self) -> Vec<Arc<str>> {
        let ended = std::mem::take(&mut self.ending);
        for run in &ended {
            self.workload.end(run, "ended", None);
        }
        ended
    }

    /// How far the log goes, once everything that was told is on disk.
    pub(super) fn mark(&mut self) -> Option<Mark> {
        let run = self.last_run.clone();
        self.workload.flush(&run);
        self.workload.mark(&run)
    }

    pub(super) fn is_running(&self) -> bool {
        self.workload.has_open_runs() || self.workload.has_news()
    }

    /// True if everything is on disk.
    pub(super) fn close(&mut self) -> bool {
        self.workload
            .close()
            .inspect_err(|error| tracing::warn!("cannot close a log: {error}"))
            .is_ok()
    }

    pub(super) fn write_out(&mut self) {
        let run = self.last_run.clone();
        self.workload.flush(&run);
        self.write_candidates();
    }

    fn write_candidates(&mut self) {
        if let Err(error) = self.workload.write_candidates() {
            tracing::warn!("no candidates: {error}");
        }
    }
}
