//! What is known to be missing, told to whom it concerns.

use std::{sync::Arc, time::Instant};

use super::{Recorder, Subject, flows::process_id};
use crate::{
    aggregate::{
        losses::{Affected, forgotten, gaps},
        preexisting,
        workload::WorkloadError,
    },
    ebpf::losses::Losses,
    enrich::machine::Concerned,
    inventory::Inventory,
};

impl Recorder {
    /// Takes in what was open before the hooks were there.
    pub(super) fn take_inventory(
        &mut self,
        inventory: &Inventory,
        now: Instant,
    ) -> Result<(), WorkloadError> {
        for socket in self.preexisting.news(inventory) {
            self.learn(&socket.key, now);
            if socket.key.pid != 0 {
                self.processes.sends(process_id(&socket.key));
            }
            self.rewrites.departed(&[(socket.key, socket.value)]);
            self.table
                .absorb_open(&socket.key, &socket.value, socket.is_established);
        }
        let found = preexisting::gaps(inventory, |cgroup_id| self.concerned(cgroup_id));
        for affected in found {
            if affected.workload.is_none() {
                self.preexisting.for_everybody.push(affected.gap.clone());
            }
            self.tell_gap(affected)?;
        }
        Ok(())
    }

    pub(super) fn concerned(&mut self, cgroup_id: u64) -> Concerned {
        match &mut self.subject {
            Subject::Machine(machine) => machine.concerned(cgroup_id),
            Subject::Command { workload, .. } => Concerned::Workload(workload.clone()),
        }
    }

    pub(in crate::aggregate) fn tell_losses(&mut self, now: Losses) -> Result<(), WorkloadError> {
        let before = std::mem::replace(&mut self.losses, now);
        let evicted = self.processes.take_evicted();
        let losses = self.losses.clone();
        let mut found = gaps(&before, &losses, |cgroup_id| self.concerned(cgroup_id));
        found.extend(forgotten(&evicted, |cgroup_id| self.concerned(cgroup_id)));
        found
            .into_iter()
            .try_for_each(|affected| self.tell_gap(affected))
    }

    pub(in crate::aggregate) fn tell_gap(
        &mut self,
        Affected { workload, gap }: Affected,
    ) -> Result<(), WorkloadError> {
        if let Some(name) = workload {
            let run = self.run_of(&name);
            self.workload(&name, &run)?.workload.tell_gap(&run, gap);
            return Ok(());
        }
        for recorded in self.workloads.values_mut() {
            let run = recorded.last_run.clone();
            recorded.workload.tell_gap(&run, gap.clone());
        }
        Ok(())
    }

    /// A run of the workload to which a gap can be told.
    pub(super) fn run_of(&self, workload: &Arc<str>) -> Arc<str> {
        if let Some(recorded) = self.workloads.get(workload) {
            return recorded.last_run.clone();
        }
        match &self.subject {
            Subject::Machine(machine) => machine.boot_run(workload),
            Subject::Command { run, .. } => run.clone(),
        }
    }
}
