//! Hooks on the cgroups of chosen containers: asked for, and told where they were missing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{Recorder, Subject};
use crate::{
    aggregate::{losses::Affected, workload::WorkloadError},
    decode::process::ProcessEvent,
    ebpf::batch::Command,
    enrich::machine::{Concerned, Machine},
    record::{Gap, GapKind, Severity},
    wire::generations::Generations,
};

/// Runs that wait for their name to be told that they had no hooks.
const MAX_LATE: usize = 4096;
const UNATTENDED: &str =
    "the container was started while no daemon was running: it had no hooks until now";
const TOO_SHORT: &str = "the container was gone before hooks could be attached to it";
/// Cgroups whose first program is remembered, up to twice as many: hooks follow in milliseconds.
const MAX_CGROUPS: usize = 4096;

#[derive(Debug)]
pub(super) struct Hooks {
    /// Where they are asked for, and the mount of the cgroups that are to have them; `None` if
    /// everything has them.
    watching: Option<(mpsc::Sender<Command>, PathBuf)>,
    /// When the first program began in a cgroup, nanoseconds of CLOCK_MONOTONIC. A runtime's own
    /// begins elsewhere and moves in.
    first_programs: Generations<u64, u64>,
    /// Runs of containers without hooks for a while: their cgroups, and why.
    late: BTreeMap<Arc<str>, (u64, String)>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            watching: None,
            first_programs: Generations::new(MAX_CGROUPS),
            late: BTreeMap::new(),
        }
    }
}

impl Hooks {
    pub(super) fn watch_with(&mut self, commands: mpsc::Sender<Command>, mount: &Path) {
        self.watching = Some((commands, mount.to_owned()));
    }

    pub(super) fn follow(&mut self, event: &ProcessEvent) {
        if let (ProcessEvent::Executed(executed), Some(_)) = (event, &self.watching) {
            let began = self
                .first_programs
                .get_or_insert_with(executed.kin.cgroup_id, || executed.at_ns);
            *began = executed.at_ns.min(*began);
        }
    }
}

fn not_attached(detail: &str) -> Gap {
    Gap {
        what: GapKind::NotAttached,
        detail: detail.to_owned(),
        lost: None,
        severity: Severity::Destinations,
    }
}

impl Recorder {
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
        for id in cgroup_ids {
            let run = machine.run_in(*id);
            let late = run.map(|run| (run, (*id, UNATTENDED.to_owned())));
            self.hooks.late.extend(late);
        }
    }

    /// A container was gone before it had hooks: nothing is known of what it did.
    pub(super) fn came_and_went(&mut self, cgroup_id: u64) -> Result<(), WorkloadError> {
        self.counters.not_attached += 1;
        self.tell_unseen(cgroup_id, TOO_SHORT)
    }

    /// A container has hooks since `at_ns`. If a program began in it before that, something may
    /// have been missed.
    pub(super) fn attached(&mut self, cgroup_id: u64, at_ns: u64) -> Result<(), WorkloadError> {
        let Subject::Machine(machine) = &self.subject else {
            return Ok(());
        };
        if machine.run_in(cgroup_id).is_none() {
            return Ok(());
        }
        let client = machine.client(cgroup_id);
        let programs = self.hooks.first_programs.iter();
        let own = programs.filter(|(id, _)| machine.client(**id) == client);
        let Some(began) = own.map(|(_, began)| *began).min() else {
            return Ok(());
        };
        let Some(unseen) = at_ns.checked_sub(began) else {
            return Ok(());
        };
        self.counters.not_attached += 1;
        let milliseconds = unseen.div_ceil(1_000_000);
        let detail =
            format!("the container ran for {milliseconds} ms before hooks could be attached to it");
        self.tell_unseen(cgroup_id, &detail)
    }

    /// Tells a container's workload that something may be missing, or once there is one.
    fn tell_unseen(&mut self, cgroup_id: u64, why: &str) -> Result<(), WorkloadError> {
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        let workload = match machine.concerned(cgroup_id) {
            Concerned::Workload(name) => Some(name),
            // Nobody has named it yet.
            Concerned::Everybody if self.hooks.late.len() < MAX_LATE => {
                let run = machine.run_in(cgroup_id);
                let late = run.map(|run| (run, (cgroup_id, why.to_owned())));
                self.hooks.late.extend(late);
                return Ok(());
            }
            Concerned::Everybody => None,
            Concerned::Nobody => return Ok(()),
        };
        let gap = not_attached(why);
        self.tell_gap(Affected { workload, gap })
    }

    /// Forgets those of whom it turned out that nobody chose them.
    pub(super) fn forget_not_chosen(&mut self) {
        if let Subject::Machine(machine) = &mut self.subject {
            let is_chosen = |id: u64, machine: &mut Machine| match machine.concerned(id) {
                Concerned::Workload(_) | Concerned::Everybody => true,
                Concerned::Nobody => false,
            };
            self.hooks.late.retain(|_, (id, _)| is_chosen(*id, machine));
        }
    }

    pub(super) fn tell_late(
        &mut self,
        workload: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<(), WorkloadError> {
        let Some((_, why)) = self.hooks.late.remove(run) else {
            return Ok(());
        };
        let gap = not_attached(&why);
        self.workload(workload, run)?.workload.tell_gap(run, gap);
        Ok(())
    }

    pub(super) fn ask_for(&mut self, cgroup_id: u64, command: impl FnOnce(&Path) -> Command) {
        let Some((commands, mount)) = &self.hooks.watching else {
            return;
        };
        if commands.try_send(command(mount)).is_err()
            && let Err(error) = self.not_attached(cgroup_id, "too many were asked for at once")
        {
            tracing::warn!("{error}");
        }
    }
}
