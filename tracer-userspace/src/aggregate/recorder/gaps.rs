//! What is known to be missing, told to whom it concerns.

use std::{path::Path, sync::Arc, time::Instant};

use super::{Recorder, Subject, flows::process_id};
use crate::{
    aggregate::{
        losses::{Affected, forgotten, gaps},
        preexisting,
        workload::WorkloadError,
    },
    ebpf::{batch::Command, losses::Losses},
    enrich::machine::Concerned,
    inventory::Inventory,
    record::{Gap, GapKind, Severity},
};

/// Runs that wait for their name to be told that they had no hooks.
const MAX_LATE: usize = 4096;
const UNATTENDED: &str =
    "the container was started while no daemon was running: it had no hooks until now";
const TOO_SHORT: &str = "the container was gone before hooks could be attached to it";

fn not_attached(detail: &str) -> Gap {
    Gap {
        what: GapKind::NotAttached,
        detail: detail.to_owned(),
        lost: None,
        severity: Severity::Destinations,
    }
}

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

    /// Destinations may be missing where hooks could not be attached.
    pub(super) fn not_attached(
        &mut self,
        cgroup_id: u64,
        reason: &str,
    ) -> Result<(), WorkloadError> {
        self.counters.not_attached += 1;
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        let workload = match machine.concerned(cgroup_id) {
            Concerned::Workload(name) => Some(name),
            Concerned::Everybody => None,
            Concerned::Nobody => return Ok(()),
        };
        let gap = not_attached(&format!(
            "the hooks could not be attached to a container: {reason}"
        ));
        self.tell_gap(Affected { workload, gap })
    }

    /// Containers got their hooks only now, although an earlier daemon's were kept: what they did
    /// before that is not known. Told when their runs begin.
    pub fn came_late(&mut self, cgroup_ids: &[u64]) {
        let Subject::Machine(machine) = &self.subject else {
            return;
        };
        let runs = cgroup_ids.iter().filter_map(|id| machine.run_in(*id));
        self.late.extend(runs.map(|run| (run, UNATTENDED)));
    }

    /// A container was gone before it had hooks: nothing is known of what it did. Told to its
    /// workload, or once there is one.
    pub(super) fn came_and_went(&mut self, cgroup_id: u64) -> Result<(), WorkloadError> {
        self.counters.not_attached += 1;
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        match machine.concerned(cgroup_id) {
            Concerned::Workload(name) => self.tell_gap(Affected {
                workload: Some(name),
                gap: not_attached(TOO_SHORT),
            }),
            // Nobody has named it yet.
            Concerned::Everybody if self.late.len() < MAX_LATE => {
                let run = machine.run_in(cgroup_id);
                self.late.extend(run.map(|run| (run, TOO_SHORT)));
                Ok(())
            }
            Concerned::Everybody => self.tell_gap(Affected {
                workload: None,
                gap: not_attached(TOO_SHORT),
            }),
            Concerned::Nobody => Ok(()),
        }
    }

    pub(super) fn tell_late(
        &mut self,
        workload: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<(), WorkloadError> {
        let Some(why) = self.late.remove(run) else {
            return Ok(());
        };
        let gap = not_attached(why);
        self.workload(workload, run)?.workload.tell_gap(run, gap);
        Ok(())
    }

    pub(super) fn ask_for(&mut self, cgroup_id: u64, command: impl FnOnce(&Path) -> Command) {
        let Some((commands, mount)) = &self.watching else {
            return;
        };
        if commands.try_send(command(mount)).is_err()
            && let Err(error) = self.not_attached(cgroup_id, "too many were asked for at once")
        {
            tracing::warn!("{error}");
        }
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
