//! One workload in the recorder's hands: opened, written out, ended and given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    account::Mark,
    recorder::{Output, Settings},
    workload::{Workload, WorkloadError},
};
use crate::record::{Record, Registered, Stats};

/// A workload, and when it last told the counters.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) workload: Workload,
    pub(super) last_run: Arc<str>,
    /// Runs whose cgroup is gone, with their last flows perhaps still in the kernel.
    pub(super) ending: Vec<Arc<str>>,
    pub(super) told_stats: Option<Instant>,
    /// It is to have a log, which could not be opened.
    pub(super) lacks_log: bool,
    /// What the log says is registered, of that run.
    registered: (Arc<str>, BTreeSet<(u8, String)>),
}

/// Names that one run may register.
const REGISTERED: usize = 8192;

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
            lacks_log: false,
            registered: (run.clone(), BTreeSet::new()),
        })
    }

    /// Opens the log that could not be opened before, with a gap for what it was to have.
    pub(super) fn open_again(
        &mut self,
        settings: &Settings,
        name: &Arc<str>,
    ) -> Result<(), WorkloadError> {
        let mut opened = Self::open(settings, name, &self.last_run, None)?;
        let start = &settings.start;
        opened
            .workload
            .go_on_for(&self.workload, &self.last_run, start);
        opened.ending = std::mem::take(&mut self.ending);
        *self = opened;
        Ok(())
    }

    pub(super) fn tell_stats(&mut self, counters: &BTreeMap<String, u64>) {
        let body = Stats {
            counters: counters.clone(),
        };
        let record = Record::Stats(self.workload.envelope(&self.last_run, body));
        self.workload.tell(&record);
    }

    /// What the log does not say yet of what is registered.
    pub(super) fn registers(&mut self, run: &Arc<str>, names: Registered) -> Option<Registered> {
        if self.registered.0 != *run {
            self.registered = (run.clone(), BTreeSet::new());
        }
        let known = &mut self.registered.1;
        let mut news = |kind, names: Vec<String>| -> Vec<String> {
            let mut fresh = names;
            fresh.retain(|name| known.len() < REGISTERED && known.insert((kind, name.clone())));
            fresh
        };
        let news = Registered {
            tools: news(0, names.tools),
            models: news(1, names.models),
            retrievers: news(2, names.retrievers),
            called: news(3, names.called),
        };
        (news != Registered::default()).then_some(news)
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
