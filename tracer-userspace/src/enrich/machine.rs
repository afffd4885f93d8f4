//! Who is who on this machine: from a flow's ids to the workload and run that it belongs to.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use tracer_common::flow::FlowKey;

use super::{
    around::Running,
    beforehand::Beforehand,
    cgroup::{CgroupIndex, is_below},
    container::{ContainerRef, Owner},
    engine::Questions,
    known::{Known, Naming, foreign_workload},
    missing::{self, Told},
    naming::{Other, WorkloadBy},
    selection::Selection,
};
use crate::{
    privilege::outside,
    record::{Container, Gap, Via},
    redact::Redactor,
    workload_name::encode,
};

/// How long a flow waits for its container's name.
pub const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// How many containers are remembered that are gone, for flows still on their way.
const REMEMBERED: usize = 1024;

/// The workload of all that is in no container and no unit.
pub const HOST: &str = "host";

/// The engine that resolves names inside a container's network namespace.
pub(super) const ENGINE: &str = "dockerd";
const DOCKERD: &[u8] = ENGINE.as_bytes();

/// What glibc asks by a Unix socket: nss-resolve, and the caches of names.
const RESOLVERS: [&str; 3] = ["systemd-resolved.service", "nscd.service", "unscd.service"];

/// Whose flow it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub workload: Arc<str>,
    pub run: Arc<str>,
    pub cgroup_path: Option<Arc<str>>,
    pub container: Option<Arc<Container>>,
    pub via: Option<Via>,
}

/// What is known of a flow's origin by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    Known(Origin),
    /// The container's name is on its way.
    Waiting,
    /// Not what was asked to be recorded.
    NotSelected,
}

/// Whom the losses in a cgroup concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerned {
    Workload(Arc<str>),
    /// It cannot be told whose they are.
    Everybody,
    /// Not what was asked to be recorded.
    Nobody,
}

/// Something that the log must say apart from flows.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A selected container has a name now, or never will have: its run begins.
    RunBegan { workload: Arc<str>, run: Arc<str> },
    /// A selected container's cgroup is gone.
    RunEnded { workload: Arc<str>, run: Arc<str> },
    /// Flows of `provisional` belong to `workload`.
    Renamed {
        provisional: Arc<str>,
        workload: Arc<str>,
        run: Arc<str>,
    },
    /// Evidence is missing, of this workload or of all.
    Missing {
        workload: Option<Arc<str>>,
        gap: Gap,
    },
    /// Containers were chosen, and this one's own cgroup needs hooks: it is, or may be, one of
    /// them. `path` is relative to the hierarchy's root.
    Watch { cgroup_id: u64, path: String },
    /// The hooks of that cgroup are not needed any more.
    Unwatch { cgroup_id: u64 },
}

/// Cgroups, containers and network namespaces of this machine.
#[derive(Debug)]
pub struct Machine {
    pub(super) proc: PathBuf,
    boot_id: String,
    pub(super) cgroups: CgroupIndex,
    pub(super) selection: Selection,
    pub(super) workload_by: WorkloadBy,
    pub(super) questions: Questions,
    pub(super) redactor: Redactor,
    /// What is known of containers that have no cgroup yet.
    pub(super) beforehand: Beforehand,
    pub(super) containers: HashMap<String, Known>,
    /// The container whose network namespace a cookie names.
    namespaces: HashMap<u64, String>,
    /// Containers whose cgroup is gone, oldest first.
    gone: VecDeque<(String, u64)>,
    host_namespace: u64,
    /// The engine's cgroup, once it has hooks.
    pub(super) engine: Option<u64>,
    pub(super) changes: Vec<Change>,
    unknown_cgroups: Told,
    pub(super) not_asked: Told,
}

impl Machine {
    /// Takes in the containers that are already there.
    #[must_use]
    pub fn new(
        proc: &Path,
        cgroups: CgroupIndex,
        host_namespace: u64,
        selection: Selection,
        workload_by: WorkloadBy,
        questions: Questions,
        now: Instant,
    ) -> Self {
        let boot_id = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id"));
        let mut machine = Self {
            proc: proc.to_owned(),
            boot_id: boot_id.unwrap_or_default(),
            cgroups,
            selection,
            workload_by,
            questions,
            redactor: Redactor::default(),
            beforehand: Beforehand::default(),
            containers: HashMap::new(),
            namespaces: HashMap::new(),
            gone: VecDeque::new(),
            host_namespace,
            engine: None,
            changes: Vec::new(),
            unknown_cgroups: Told::default(),
            not_asked: Told::default(),
        };
        let mut present: Vec<_> = machine
            .cgroups
            .iter()
            .filter_map(|(cgroup_id, cgroup)| match &cgroup.owner {
                Owner::Container(found) => Some((cgroup.path.len(), cgroup_id, found.clone())),
                Owner::Unit(_) | Owner::Host => None,
            })
            .collect();
        // The outermost first: of nested cgroups it is the container's own.
        present.sort_by_key(|(length, ..)| *length);
        for (_, cgroup_id, found) in present {
            machine.meet(cgroup_id, &found, now);
        }
        machine
    }

    /// What is hidden in what containers are labelled with.
    #[must_use]
    pub fn hiding(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// A cgroup was made: if it is a container's, its name is asked for right away.
    pub fn cgroup_created(&mut self, cgroup_id: u64, path: Option<String>, now: Instant) {
        let owner = self
            .cgroups
            .created(cgroup_id, path)
            .map(|found| found.owner.clone());
        match owner {
            Some(Owner::Container(found)) => self.meet(cgroup_id, &found, now),
            Some(Owner::Unit(_) | Owner::Host) | None => {}
        }
    }

    /// A cgroup was removed: if it was a container's own, the run is over. One that came while
    /// nobody listened is known by its `path` alone.
    pub fn cgroup_removed(&mut self, cgroup_id: u64, path: Option<String>, now: Instant) {
        if path.is_some() && !self.cgroups.knows(cgroup_id) {
            self.cgroup_created(cgroup_id, path, now);
        }
        self.cgroups.removed(cgroup_id);
        let mut containers = self.containers.values_mut();
        let Some(known) = containers.find(|known| known.cgroup_id == cgroup_id && !known.is_gone)
        else {
            return;
        };
        known.is_gone = true;
        if let Some((workload, true)) = known.naming.workload() {
            self.changes.push(Change::RunEnded {
                workload: workload.clone(),
                run: known.run.clone(),
            });
        }
        let id = known.reference.id.clone();
        self.gone.push_back((id.clone(), cgroup_id));
        self.watch(&id);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        if self.gone.len() <= REMEMBERED {
            return;
        }
        let Some((oldest, cgroup_id)) = self.gone.pop_front() else {
            return;
        };
        match self.containers.get_mut(&oldest) {
            Some(known) if known.cgroup_id == cgroup_id => {
                self.containers.remove(&oldest);
                self.namespaces.retain(|_, id| *id != oldest);
            }
            // It was started again.
            Some(known) => known.before = None,
            None => {}
        }
    }

    pub(super) fn knows_cgroup(&self, cgroup_id: u64) -> bool {
        self.cgroups.knows(cgroup_id)
    }

    /// The path of a cgroup, of one that is gone lately too.
    #[must_use]
    pub fn cgroup_path(&self, cgroup_id: u64) -> Option<&str> {
        self.cgroups.path(cgroup_id)
    }

    /// What the log must say since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        if let Some(lost) = self.unknown_cgroups.news() {
            let gap = missing::unknown_cgroups(lost, self.selection.is_everything());
            let workload = self.selection.is_everything().then(|| HOST.into());
            self.changes.push(Change::Missing { workload, gap });
        }
        if let Some(lost) = self.not_asked.news() {
            let gap = missing::not_asked(lost);
            self.changes.push(Change::Missing {
                workload: None,
                gap,
            });
        }
        std::mem::take(&mut self.changes)
    }

    /// What a `stats` record says of all this.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 3] {
        [
            ("unknown_cgroups", self.unknown_cgroups.total),
            ("names_not_asked", self.not_asked.total),
            ("names_forgotten", self.beforehand.forgotten),
        ]
    }

    /// Whether [`Self::attribute`] needs the sender's executable.
    #[must_use]
    pub fn needs_command(&self) -> bool {
        self.workload_by.needs_command()
    }

    /// Notes whose network namespace this is, so that what others send in it can be told.
    pub fn learn(&mut self, key: &FlowKey, now: Instant) {
        let owner = self.owner_of(key.cgroup_id, key.pid);
        if let Owner::Container(found) = owner {
            self.meet(key.cgroup_id, &found, now);
            // What is no IP socket tells of no namespace.
            if key.netns_cookie != 0 && key.netns_cookie != self.host_namespace {
                self.namespaces.entry(key.netns_cookie).or_insert(found.id);
            }
        }
    }

    /// Whose flow it is, as far as is known by now. `comm` is the sender's, NUL-padded; `command`
    /// its executable's name, where [`Self::needs_command`].
    pub fn attribute(
        &mut self,
        key: &FlowKey,
        comm: &[u8; 16],
        command: Option<&str>,
    ) -> Attribution {
        let found = self.cgroups.get(key.cgroup_id, &self.proc, key.pid);
        let Some((path, owner)) = found.map(|found| (found.path.clone(), found.owner.clone()))
        else {
            return self.unknown_origin(key, comm);
        };
        let (unit, path) = match owner {
            Owner::Container(found) => {
                return self.container_origin(&found.id, key, Some(path.into()), None);
            }
            Owner::Unit(_) | Owner::Host if self.is_engines(key, comm) => {
                let id = self.namespaces[&key.netns_cookie].clone();
                return self.container_origin(&id, key, Some(path.into()), Some(Via::Engine));
            }
            Owner::Unit(name) => (Some(name), path),
            Owner::Host => (None, path),
        };
        let other = Other {
            unit: unit.as_deref(),
            path: Some(&path),
            command,
        };
        self.other_origin(&other)
    }

    /// Of a cgroup that came and went unseen nothing can be told: not silently.
    fn unknown_origin(&mut self, key: &FlowKey, comm: &[u8; 16]) -> Attribution {
        if self.is_engines(key, comm) {
            let id = self.namespaces[&key.netns_cookie].clone();
            return self.container_origin(&id, key, None, Some(Via::Engine));
        }
        self.unknown_cgroups.total += 1;
        if !self.selection.is_everything() {
            return Attribution::NotSelected;
        }
        Attribution::Known(Origin {
            workload: HOST.into(),
            run: self.boot_run(HOST),
            cgroup_path: None,
            container: None,
            via: None,
        })
    }

    /// The id of the container that a cgroup is of; `pid` is a process in it.
    pub fn container_of(&mut self, cgroup_id: u64, pid: u32) -> Option<String> {
        match self.owner_of(cgroup_id, pid) {
            Owner::Container(found) => Some(found.id),
            Owner::Unit(_) | Owner::Host => None,
        }
    }

    /// Whose names those of a cgroup are: of a container's first cgroup for all that are in it.
    #[must_use]
    pub fn client(&self, cgroup_id: u64) -> u64 {
        let container = match self.cgroups.known(cgroup_id).map(|found| &found.owner) {
            Some(Owner::Container(found)) => self.containers.get(&found.id),
            Some(Owner::Unit(_) | Owner::Host) | None => None,
        };
        container.map_or(cgroup_id, |known| known.lifetime(cgroup_id).cgroup_id)
    }

    /// The unit that a cgroup is of, if others ask that for names by a Unix socket.
    #[must_use]
    pub fn resolver(&self, cgroup_id: u64) -> Option<&'static str> {
        match &self.cgroups.known(cgroup_id)?.owner {
            Owner::Unit(unit) => RESOLVERS.into_iter().find(|known| known == unit),
            Owner::Container(_) | Owner::Host => None,
        }
    }

    /// Whether a cgroup is a container's, as far as is known.
    #[must_use]
    pub fn is_contained(&self, cgroup_id: u64) -> bool {
        match self.cgroups.known(cgroup_id).map(|found| &found.owner) {
            Some(Owner::Unit(_) | Owner::Host) => false,
            // Rather a name too few.
            Some(Owner::Container(_)) | None => true,
        }
    }

    /// The containers that run and have a process in their own cgroup.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        let alive = self.containers.values().filter(|known| !known.is_gone);
        let running = alive.filter_map(|known| {
            let name = known.container.name.clone();
            Some(Running {
                id: known.reference.id.clone(),
                name: name.unwrap_or_else(|| known.reference.provisional_name()),
                pid: self.cgroups.a_process(&known.path)?,
            })
        });
        running.collect()
    }

    /// Whether what a flow's sender says to the processes of another cgroup stays in the workload:
    /// both are of one container or pod, or below one chosen cgroup. What is shut into none of these
    /// has all services of the host around it: what it says to them is taken for its own affair.
    pub fn are_together(&mut self, key: &FlowKey, other: u64) -> bool {
        let mut look = |cgroup_id, pid| self.cgroups.get(cgroup_id, &self.proc, pid).cloned();
        let (Some(sender), other) = (look(key.cgroup_id, key.pid), look(other, 0)) else {
            return false;
        };
        let Owner::Container(sender_container) = &sender.owner else {
            return match self.selection.nearest(&sender.path) {
                Some(chosen) => other.is_some_and(|other| is_below(&other.path, chosen)),
                None => true,
            };
        };
        match other.map(|other| other.owner) {
            Some(Owner::Container(other)) => {
                let pods = (&other.pod_uid, &sender_container.pod_uid);
                let share_a_pod = pods.0.is_some() && pods.0 == pods.1;
                share_a_pod || other.id == sender_container.id
            }
            Some(Owner::Unit(_) | Owner::Host) | None => false,
        }
    }

    /// To whom losses in a cgroup are told.
    pub fn concerned(&mut self, cgroup_id: u64) -> Concerned {
        let Some(found) = self.cgroups.get(cgroup_id, &self.proc, 0).cloned() else {
            return Concerned::Everybody;
        };
        let unit = match &found.owner {
            Owner::Container(container) => {
                let known = self.containers.get(&container.id);
                return match known.and_then(|known| known.lifetime(cgroup_id).naming.workload()) {
                    None => Concerned::Everybody,
                    Some((workload, true)) => Concerned::Workload(workload.clone()),
                    Some((_, false)) => Concerned::Nobody,
                };
            }
            Owner::Unit(name) => Some(name.as_str()),
            Owner::Host => None,
        };
        let other = Other {
            unit,
            path: Some(&found.path),
            command: None,
        };
        let workload = self.other_workload(&other);
        if workload.is_some() && self.needs_command() {
            // Any of the commands in that cgroup.
            return Concerned::Everybody;
        }
        workload.map_or(Concerned::Nobody, Concerned::Workload)
    }

    /// The run of a workload that is no container: it lasts as long as the machine is up.
    #[must_use]
    pub fn boot_run(&self, workload: &str) -> Arc<str> {
        run_id(&[&self.boot_id, workload])
    }

    fn owner_of(&mut self, cgroup_id: u64, pid: u32) -> Owner {
        self.cgroups
            .get(cgroup_id, &self.proc, pid)
            .map_or(Owner::Host, |found| found.owner.clone())
    }

    fn is_engines(&self, key: &FlowKey, comm: &[u8; 16]) -> bool {
        // Anybody may call himself so; the program's path is what counts.
        let runs = || {
            let exe = outside::read_link(&self.proc.join(key.pid.to_string()).join("exe")).ok()?;
            Some(exe.file_name()?.as_encoded_bytes() == DOCKERD)
        };
        comm.starts_with(DOCKERD)
            && self.namespaces.contains_key(&key.netns_cookie)
            && runs().unwrap_or(false)
    }

    /// A cgroup is a container's, or is inside one.
    fn meet(&mut self, cgroup_id: u64, found: &ContainerRef, now: Instant) {
        let before = match self.containers.get(&found.id) {
            Some(known) if !known.is_gone || self.cgroups.is_removed(cgroup_id) => return,
            // It was started again: another run.
            Some(known) => Some(Box::new(Known {
                before: None,
                ..known.clone()
            })),
            None => None,
        };
        let path = self.cgroups.get(cgroup_id, &self.proc, 0);
        let path = path.map(|found| found.path.clone()).unwrap_or_default();
        let own_name = (!found.runtime.has_engine()).then(|| found.id.clone());
        let container = Container {
            id: found.id.clone(),
            runtime: found.runtime.name().to_owned(),
            name: own_name,
            pod_uid: found.pod_uid.clone(),
            ..Container::default()
        };
        let known = Known {
            reference: found.clone(),
            container: Arc::new(container),
            run: run_id(&[&self.boot_id, &found.id, &cgroup_id.to_string()]),
            cgroup_id,
            uid: self.cgroups.uid(&path),
            path,
            naming: Naming::Asked { since: now },
            watched: false,
            is_gone: false,
            before,
        };
        self.containers.insert(found.id.clone(), known);
        // What is known already decides at once.
        self.ask(found);
        self.watch(&found.id);
    }

    fn container_origin(
        &self,
        id: &str,
        key: &FlowKey,
        cgroup_path: Option<Arc<str>>,
        via: Option<Via>,
    ) -> Attribution {
        let Some(known) = self.containers.get(id) else {
            return Attribution::Waiting;
        };
        let known = known.lifetime(key.cgroup_id);
        match known.naming.workload() {
            None => Attribution::Waiting,
            Some((_, false)) => Attribution::NotSelected,
            Some((workload, true)) => Attribution::Known(Origin {
                workload: workload.clone(),
                run: known.run.clone(),
                cgroup_path,
                container: Some(known.container.clone()),
                via,
            }),
        }
    }

    fn other_origin(&self, other: &Other<'_>) -> Attribution {
        let Some(workload) = self.other_workload(other) else {
            return Attribution::NotSelected;
        };
        Attribution::Known(Origin {
            run: self.boot_run(&workload),
            workload,
            cgroup_path: other.path.map(Arc::from),
            container: None,
            via: None,
        })
    }

    /// The workload of what is in no container: the nearest of the chosen cgroups, or what it is
    /// called where none was chosen; `None` if it is not selected.
    fn other_workload(&self, other: &Other<'_>) -> Option<Arc<str>> {
        if let Some(chosen) = self.selection.nearest(other.path.unwrap_or_default()) {
            let name = chosen.rsplit('/').next().unwrap_or(HOST);
            return Some(encode(name).into());
        }
        if !self.selection.is_everything() {
            return None;
        }
        Some(match self.workload_by.other(other) {
            Some((unit, true)) => encode(&unit).into(),
            Some((name, false)) => foreign_workload(&name),
            None => HOST.into(),
        })
    }
}

/// Sixteen hex digits that are the same whenever the parts are: a restarted daemon continues
/// the runs of containers that are still there.
fn run_id(parts: &[&str]) -> Arc<str> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.trim().as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
