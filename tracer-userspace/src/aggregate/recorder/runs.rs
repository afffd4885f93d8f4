//! Runs and their logs: begun, renamed, ended.

use std::{collections::btree_map::Entry, sync::Arc};

use super::{Recorder, Subject};
use crate::{
    aggregate::{losses::Affected, recorded::Recorded, workload::WorkloadError},
    ebpf::batch::Command,
    enrich::machine::Change,
    record::{Alias, Record},
};

impl Recorder {
    pub(in crate::aggregate) fn tell_changes(&mut self) -> Result<(), WorkloadError> {
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        for change in machine.take_changes() {
            match change {
                Change::RunBegan { workload, run } => {
                    self.workload(&workload, &run)?;
                    self.tell_late(&workload, &run)?;
                }
                Change::RunEnded { workload, run } => {
                    // What the run did last is still in the kernel.
                    if let Some(recorded) = self.workloads.get_mut(&workload) {
                        recorded.ending.push(run);
                    }
                }
                Change::Renamed {
                    provisional,
                    workload,
                    run,
                } => {
                    self.tell_alias(&provisional, &workload, &run)?;
                }
                Change::Missing { workload, gap } => {
                    self.tell_gap(Affected { workload, gap })?;
                }
                Change::Watch { cgroup_id, path } => self.ask_for(cgroup_id, |mount| {
                    let path = mount.join(path.trim_start_matches('/'));
                    Command::Attach { cgroup_id, path }
                }),
                Change::Unwatch { cgroup_id } => {
                    self.ask_for(cgroup_id, |_| Command::Detach { cgroup_id });
                }
            }
        }
        Ok(())
    }

    /// Both logs say so: whoever reads either finds the other. What was observed under the
    /// provisional name counts for the real one from now on.
    pub(super) fn tell_alias(
        &mut self,
        provisional: &Arc<str>,
        workload: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<(), WorkloadError> {
        let body = Alias {
            provisional: provisional.to_string(),
        };
        let named = self.workload(workload, run)?;
        let record = Record::Alias(named.workload.envelope(run, body));
        named.workload.tell(&record);
        let Some(before) = self.workloads.get_mut(provisional) else {
            return Ok(());
        };
        before.workload.tell(&record);
        before.workload.end(run, "renamed", None);
        before.write_out();
        let observed = before.workload.observations().clone();
        self.workload(workload, run)?.workload.merge(&observed);
        Ok(())
    }

    /// The workload of that name with that run begun, opened if need be.
    pub(super) fn workload(
        &mut self,
        name: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<&mut Recorded, WorkloadError> {
        let mut is_new = false;
        let recorded = match self.workloads.entry(name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut opened = Recorded::open(&self.settings, name, run, None)
                    .or_else(|error| self.counters.without_log(&self.settings, name, run, error))?;
                opened.workload.ended_here(self.ended.iter());
                if let (Some(book), Some(mark)) = (&mut self.book, opened.mark()) {
                    book.opened(name, mark);
                }
                is_new = true;
                new.insert(opened)
            }
        };
        recorded.last_run.clone_from(run);
        if recorded.workload.is_unheard_of()
            && let Some(gap) = &self.uncertain
        {
            recorded.workload.tell_gap(run, gap.clone());
        }
        recorded.workload.begin(run, &self.settings.start);
        if is_new {
            for gap in &self.preexisting.for_everybody {
                recorded.workload.tell_gap(run, gap.clone());
            }
        }
        Ok(recorded)
    }
}
