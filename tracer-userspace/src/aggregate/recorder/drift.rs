//! What no approval covers, told the moment it is written.

use std::sync::Arc;

use tracer_common::flow::FlowKey;

use super::Recorder;
use crate::{
    aggregate::{drift::Watch, losses::Affected, workload::WorkloadError},
    enrich::machine::Origin,
    record::{Gap, GapKind, Record, Severity},
};

impl Recorder {
    /// Holds every flow from now on against policies.
    pub fn watch_drift(&mut self, watch: Watch) {
        self.drift = Some(watch);
    }

    /// What is left of it at the end.
    pub fn take_drift(&mut self) -> Option<Watch> {
        self.drift.take()
    }

    pub(super) fn hear_drift(&mut self, key: &FlowKey) {
        if let Some(watch) = &mut self.drift {
            watch.hear(key);
        }
    }

    /// After a batch of news.
    pub(super) fn ask_drift(&mut self) {
        if let Some(watch) = &mut self.drift {
            watch.ask();
        }
    }

    /// `flow` is on its way to the log; a `drift` record follows it if nobody has approved of it.
    pub(super) fn tell_drift(
        &mut self,
        flow: &Record,
        origin: &Origin,
    ) -> Result<(), WorkloadError> {
        let Some(mut watch) = self.drift.take() else {
            return Ok(());
        };
        let told = match watch.judge(&origin.workload, flow) {
            Some(drift) => self
                .workload(&origin.workload, &origin.run)
                .map(|recorded| {
                    let envelope = recorded
                        .workload
                        .envelope(&origin.run, Box::new(drift.clone()));
                    let record = Record::Drift(envelope);
                    recorded.workload.tell(&record);
                    // Whoever watches the log is not to wait for the interval either.
                    recorded.workload.flush(&origin.run);
                    watch.announce(&origin.workload, &record, &drift);
                }),
            None => Ok(()),
        };
        self.drift = Some(watch);
        told
    }

    /// Destinations that were too many to be told one by one.
    pub(super) fn tell_untold_drift(&mut self) -> Result<(), WorkloadError> {
        let untold = self.drift.as_mut().map(Watch::take_untold);
        for (name, lost) in untold.unwrap_or_default() {
            let workload: Option<Arc<str>> = Some(name);
            let gap = Gap {
                what: GapKind::Drift,
                detail: "more destinations drift from the policy than are told one by one; their \
                         flows are in the log"
                    .to_owned(),
                lost: Some(lost),
                severity: Severity::Detail,
            };
            self.tell_gap(Affected { workload, gap })?;
        }
        Ok(())
    }
}
