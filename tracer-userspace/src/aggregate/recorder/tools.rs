//! On behalf of which of an agent's tools flows were, and what is known of that.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use bytemuck::Zeroable as _;
use tracer_common::{context::origin, flow::FlowKey};

use super::{Recorder, Subject};
use crate::{
    aggregate::{
        losses::{calls_refused, contexts_unknown, spans_lost},
        spans::Spans,
        table::{Tally, Told},
        workload::WorkloadError,
    },
    enrich::{cgroup::is_below, machine::Attribution},
    mark::{Origin, Shared, ledger::Announced},
    record::{Flow, Record, Tool},
};

/// What `last_ns` may be late by: the coarse clock's tick.
const TICK_NS: u64 = 10_000_000;

impl Recorder {
    /// Asks `marks` on whose behalf flows were.
    pub fn attribute_with(&mut self, marks: Shared) {
        self.marks = Some(marks);
    }

    /// Puts a flow down to a tool. A record that only tells what became of attempts says what the
    /// record said that counted them.
    pub(super) fn tell_tool(&self, key: &FlowKey, tally: &mut Tally, told: &Told, flow: &mut Flow) {
        let is_aftermath = told.count == 0 && told.translated.is_none();
        if is_aftermath {
            flow.tool.clone_from(&tally.tool);
            return;
        }
        let last_ns = match told.count {
            0 | 1 => told.first_ns,
            2.. => told.last_ns.saturating_add(TICK_NS),
        };
        flow.tool = self.tool_of(key, told.first_ns, last_ns);
        if told.count > 0 {
            tally.tool.clone_from(&flow.tool);
        }
    }

    fn tool_of(&self, key: &FlowKey, first_ns: u64, last_ns: u64) -> Option<Tool> {
        let origin = match key.origin {
            origin::NONE => return None,
            origin::OWN => Origin::Own,
            origin::KEPT => Origin::Kept,
            origin::UNSURE => Origin::Unsure,
            _forked_or_inherited => Origin::Inherited,
        };
        match &self.marks {
            Some(marks) => marks
                .lock()
                .attribute(key.context, origin, first_ns, last_ns),
            // A daemon before this one had listened.
            None => Some(Tool::unknown()),
        }
    }

    /// Writes what was registered, as far as it is known by whom.
    pub(super) fn tell_registered(&mut self) -> Result<(), WorkloadError> {
        let Some(marks) = self.marks.clone() else {
            return Ok(());
        };
        let announced = marks.lock().take_announced();
        for announced in announced {
            let (workload, run) = match self.owner(&announced) {
                Owner::Known(workload, run) => (workload, run),
                Owner::Waiting => {
                    marks.lock().announce_again(announced);
                    continue;
                }
                Owner::Nobody => continue,
            };
            let recorded = self.workload(&workload, &run)?;
            if let Some(news) = recorded.registers(&run, announced.names) {
                let record = Record::Registered(recorded.workload.envelope(&run, news));
                recorded.workload.tell(&record);
            }
        }
        Ok(())
    }

    fn owner(&mut self, announced: &Announced) -> Owner {
        let key = FlowKey {
            cgroup_id: announced.cgroup_id,
            pid: announced.pid,
            ..FlowKey::zeroed()
        };
        match &mut self.subject {
            Subject::Machine(machine) => match machine.attribute(&key, &[0; 16], None) {
                Attribution::Known(origin) => Owner::Known(origin.workload, origin.run),
                Attribution::Waiting => Owner::Waiting,
                Attribution::NotSelected => Owner::Nobody,
            },
            Subject::Command {
                workload,
                run,
                cgroups,
                cgroup,
            } => {
                let proc: PathBuf = self.proc.clone();
                let found = cgroups.get(announced.cgroup_id, &proc, announced.pid);
                match found.is_some_and(|found| is_below(&found.path, cgroup)) {
                    true => Owner::Known(workload.clone(), run.clone()),
                    false => Owner::Nobody,
                }
            }
        }
    }

    /// What could not be kept of calls, since it was last told. Every flow up to `until_ns` is told.
    pub(super) fn tell_lost_calls(&mut self, until_ns: u64) -> Result<(), WorkloadError> {
        let lost = self.spans.as_mut().map_or(0, Spans::take_lost);
        spans_lost(lost).map_or(Ok(()), |affected| self.tell_gap(affected))?;
        let Some(marks) = self.marks.clone() else {
            return Ok(());
        };
        let mut ledger = marks.lock();
        ledger.told(until_ns);
        let refused: HashMap<u64, u64> = std::mem::take(&mut ledger.counts.untold);
        let unknown = std::mem::take(&mut ledger.counts.unknown);
        drop(ledger);
        let mut gaps = calls_refused(&refused, |cgroup_id| self.concerned(cgroup_id));
        gaps.extend(contexts_unknown(unknown));
        gaps.into_iter()
            .try_for_each(|affected| self.tell_gap(affected))
    }

    pub(super) fn mark_counters(&self) -> Vec<(&'static str, u64)> {
        let marks = self.marks.as_ref();
        marks.map_or_else(Vec::new, |marks| marks.lock().counts.all())
    }
}

/// Whose a process is.
enum Owner {
    Known(Arc<str>, Arc<str>),
    Waiting,
    Nobody,
}
