//! What the recorder has done so far, and the counters of a `stats` record.

use std::{collections::BTreeMap, sync::Arc};

use tracer_common::limits::loss;

use super::{Output, Recorder, Settings, Subject};
use crate::aggregate::{drift::Watch, recorded::Recorded, spans::Spans, workload::WorkloadError};

/// What this process has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    /// Workloads whose log could not be opened.
    pub(super) without_log: u64,
    pub(super) news: u64,
    pub(super) counted_keys: u64,
    pub(super) process_events: u64,
    pub(super) wire_pieces: u64,
    /// Names that found no room, as far as gaps have told.
    pub(super) names_refused: u64,
    pub(super) sweeps: u64,
    /// Outcomes of flows that were not known any more.
    pub(super) outcomes_unmatched: u64,
    /// Cgroups to which hooks could not be attached.
    pub(super) not_attached: u64,
}

impl Counters {
    /// One workload's log must not cost the others theirs: it is observed in memory until its log
    /// can be opened, or else the end of the recording says so. A recording of one workload alone
    /// fails.
    pub(super) fn without_log(
        &mut self,
        settings: &Settings,
        name: &Arc<str>,
        run: &Arc<str>,
        error: WorkloadError,
    ) -> Result<Recorded, WorkloadError> {
        if matches!(settings.output, Output::Flat(_)) {
            return Err(error);
        }
        self.without_log += 1;
        tracing::error!(workload = %name, "nothing of this workload is written yet: {error}");
        let settings = Settings {
            output: Output::Memory,
            ..settings.clone()
        };
        let mut in_memory = Recorded::open(&settings, name, run, None)?;
        in_memory.lacks_log = true;
        Ok(in_memory)
    }
}

impl Recorder {
    fn machine_counters(&self) -> Vec<(&'static str, u64)> {
        match &self.subject {
            Subject::Machine(machine) => machine.counters().to_vec(),
            Subject::Command { .. } => Vec::new(),
        }
    }

    /// The counters of a `stats` record, documented in `docs/log.md`.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let lost = |reason: u32| self.losses.by_reason[reason as usize];
        let wire = self.wire.counts();
        [
            ("events", self.counters.news),
            ("counted_keys", self.counters.counted_keys),
            ("sweeps", self.counters.sweeps),
            ("workloads_without_log", self.counters.without_log),
            ("ring_full", lost(loss::RING_FULL)),
            ("table_full", lost(loss::TABLE_FULL)),
            ("quota_full", lost(loss::QUOTA_FULL)),
            ("cgroups_full", lost(loss::CGROUPS_FULL)),
            ("socket_storage", lost(loss::SOCKET_STORAGE)),
            ("no_table", lost(loss::NO_TABLE)),
            ("translations_full", lost(loss::TRANSLATIONS_FULL)),
            ("not_attached", self.counters.not_attached),
            ("undecodable", self.losses.undecodable),
            ("process_events", self.counters.process_events),
            ("process_ring_full", lost(loss::PROCESS_RING_FULL)),
            ("processes_evicted", self.processes.all_evicted()),
            ("wire_pieces", self.counters.wire_pieces),
            ("outcomes_full", lost(loss::OUTCOMES_FULL)),
            ("connections_full", lost(loss::CONNECTIONS_FULL)),
            ("answers_full", lost(loss::ANSWERS_FULL)),
            ("replies_full", lost(loss::REPLIES_FULL)),
            ("first_unknown", lost(loss::FIRST_UNKNOWN)),
            ("outcomes_unmatched", self.counters.outcomes_unmatched),
            ("wire_ring_full", lost(loss::WIRE_RING_FULL)),
            ("contexts_full", lost(loss::CONTEXTS_FULL)),
            ("wire_refused", wire.refused),
            ("dns_undecodable", wire.undecodable),
            ("dns_unasked", wire.unasked),
            ("sockets_nameless", self.sockets.nameless),
        ]
        .into_iter()
        .chain(self.rewrites.counters())
        .chain(self.machine_counters())
        .chain(self.mark_counters())
        .chain(self.drift.iter().flat_map(Watch::counters))
        .chain(self.spans.iter().flat_map(Spans::counters))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
