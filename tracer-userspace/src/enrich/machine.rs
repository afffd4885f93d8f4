//! Who is who on this machine: from a flow's ids to the workload and run that it belongs to.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracer_common::flow::FlowKey;

use super::{
    cgroup::CgroupIndex,
    container::{ContainerRef, Owner, Runtime},
    docker::{Answer, ContainerInfo, Questions},
    engine,
};
use crate::{
    record::{Container, Via},
    workload_name::encode,
};

/// How long a flow waits for its container's name.
pub const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// How many containers are remembered that are gone, for flows still on their way.
const REMEMBERED: usize = 1024;

/// The workload of all that is in no container and no unit.
pub const HOST: &str = "host";

/// The engine that resolves names inside a container's network namespace.
const ENGINE: &str = "dockerd";
const DOCKERD: &[u8] = ENGINE.as_bytes();

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A container is selected, or may be: its cgroup is to have hooks.
    Watch { cgroup_id: u64, path: String },
    /// It proved not to be selected.
    Unwatch { cgroup_id: u64 },
}

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Container names; empty: every container, unit and the host.
    pub containers: Vec<glob::Pattern>,
    /// Paths of chosen cgroups, relative to the hierarchy's root; empty: all.
    pub cgroups: Vec<String>,
}

/// What one daemon tells the next of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub cgroup_id: u64,
    pub path: String,
    pub id: String,
    pub info: Option<ContainerInfo>,
}

/// One container.
#[derive(Debug)]
struct Known {
    reference: ContainerRef,
    container: Arc<Container>,
    run: Arc<str>,
    cgroup_id: u64,
    /// Of that cgroup, relative to the hierarchy's root.
    path: String,
    naming: Naming,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Naming {
    Asked {
        since: Instant,
    },
    Named {
        workload: Arc<str>,
        selected: bool,
    },
    /// Nobody named it in time.
    Provisional {
        workload: Arc<str>,
        selected: bool,
    },
}

/// Cgroups, containers and network namespaces of this machine.
#[derive(Debug)]
pub struct Machine {
    proc: PathBuf,
    boot_id: String,
    cgroups: CgroupIndex,
    selection: Selection,
    questions: Questions,
    containers: HashMap<String, Known>,
    /// The container whose network namespace a cookie names.
    namespaces: HashMap<u64, String>,
    /// Containers whose cgroup is gone, oldest first.
    gone: VecDeque<String>,
    host_namespace: u64,
    /// The engine's cgroup, once it has hooks.
    engine: Option<u64>,
    changes: Vec<Change>,
}

impl Machine {
    /// Takes in the containers that are already there.
    #[must_use]
    pub fn new(
        proc: &Path,
        cgroups: CgroupIndex,
        host_namespace: u64,
        selection: Selection,
        questions: Questions,
        now: Instant,
    ) -> Self {
        let boot_id = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id"));
        let mut machine = Self {
            proc: proc.to_owned(),
            boot_id: boot_id.unwrap_or_default(),
            cgroups,
            selection,
            questions,
            containers: HashMap::new(),
            namespaces: HashMap::new(),
            gone: VecDeque::new(),
            host_namespace,
            engine: None,
            changes: Vec::new(),
        };
        let present: Vec<_> = machine
            .cgroups
            .iter()
            .filter_map(|(cgroup_id, cgroup)| match &cgroup.owner {
                Owner::Container(found) => Some((cgroup_id, found.clone())),
                Owner::Unit(_) | Owner::Host => None,
            })
            .collect();
        for (cgroup_id, found) in present {
            machine.meet(cgroup_id, &found, now);
        }
        machine
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
        let ended = self
            .containers
            .values()
            .find(|known| known.cgroup_id == cgroup_id);
        let Some(Known {
            container,
            run,
            naming,
            ..
        }) = ended
        else {
            return;
        };
        if let Some((workload, true)) = naming.workload() {
            let change = Change::RunEnded {
                workload: workload.clone(),
                run: run.clone(),
            };
            self.changes.push(change);
        }
        self.gone.push_back(container.id.clone());
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
        {
            self.containers.remove(&oldest);
            self.namespaces.retain(|_, id| *id != oldest);
        }
    }

    /// The engine has answered.
    pub fn named(&mut self, answer: Answer) {
        let Some(known) = self.containers.get_mut(&answer.id) else {
            return;
        };
        let Some(info) = answer.info else {
            // Nobody else will name it: no use in waiting.
            if matches!(known.naming, Naming::Asked { .. }) {
                Self::settle(known, &self.selection, &mut self.changes);
            }
            return;
        };
        let workload = container_workload(&info.default_workload());
        let selected = selects(&self.selection, &known.path, &[&info.name, &workload]);
        let before = known.naming.clone();
        known.container = Arc::new(describe(&known.container, info));
        known.naming = Naming::Named {
            workload: workload.clone(),
            selected,
        };
        if !selected {
            unwatch(known, &self.selection, &mut self.changes);
            return;
        }
        let (run, reference) = (known.run.clone(), known.reference.runtime);
        if self.selection.is_by_container() && reference == Runtime::Docker {
            self.watch_engine();
        }
        self.changes.push(Change::RunBegan {
            workload: workload.clone(),
            run: run.clone(),
        });
        if let Naming::Provisional {
            workload: provisional,
            ..
        } = before
        {
            self.changes.push(Change::Renamed {
                provisional,
                workload,
                run,
            });
        }
    }

    /// The engine's resolver sends for containers, from the engine's cgroup. Where that is the
    /// root, all others pay for the hooks too: rather that than rules without a name server.
    fn watch_engine(&mut self) {
        if self
            .engine
            .is_some_and(|cgroup_id| self.cgroups.knows(cgroup_id))
        {
            return;
        }
        let Some(path) = engine::cgroup_of_program(&self.proc, ENGINE) else {
            return;
        };
        let mut cgroups = self.cgroups.iter();
        let found = cgroups.find(|(_, cgroup)| cgroup.path == path);
        if let Some((cgroup_id, _)) = found {
            self.engine = Some(cgroup_id);
            self.changes.push(Change::Watch { cgroup_id, path });
        }
    }

    /// Containers that have waited long enough get a provisional name.
    pub fn settle_overdue(&mut self, now: Instant) {
        for known in self.containers.values_mut() {
            if let Naming::Asked { since } = known.naming
                && now.duration_since(since) >= NAME_PATIENCE
            {
                Self::settle(known, &self.selection, &mut self.changes);
            }
        }
    }

    /// Gives every container that still waits a provisional name: nothing will follow.
    pub fn settle_all(&mut self) {
        for known in self.containers.values_mut() {
            if matches!(known.naming, Naming::Asked { .. }) {
                Self::settle(known, &self.selection, &mut self.changes);
            }
        }
    }

    fn settle(known: &mut Known, selection: &Selection, changes: &mut Vec<Change>) {
        let workload: Arc<str> = encode(&known.reference.provisional_name()).into();
        let selected = selects(selection, &known.path, &[&workload]);
        known.naming = Naming::Provisional {
            workload: workload.clone(),
            selected,
        };
        if selected {
            changes.push(Change::RunBegan {
                workload,
                run: known.run.clone(),
            });
        } else {
            unwatch(known, selection, changes);
        }
    }

    /// The container cgroups that are or lately were, with the names of their containers: what the
    /// next daemon could not find out any more.
    pub fn memory(&self) -> impl Iterator<Item = Remembered> {
        self.containers.values().map(|known| Remembered {
            cgroup_id: known.cgroup_id,
            path: known.path.clone(),
            id: known.container.id.clone(),
            info: known.container.name.clone().map(|name| ContainerInfo {
                name,
                image: known.container.image.clone(),
                labels: known.container.labels.clone(),
            }),
        })
    }

    /// Takes in what an earlier daemon knew. Cgroups that are gone meanwhile are treated so.
    pub fn recall(&mut self, remembered: Remembered, now: Instant) {
        let Remembered {
            cgroup_id,
            path,
            id,
            info,
        } = remembered;
        let is_gone = !self.cgroups.knows(cgroup_id);
        if is_gone {
            self.cgroup_created(cgroup_id, Some(path), now);
        }
        if info.is_some() {
            self.named(Answer { id, info });
        }
        if is_gone {
            self.cgroup_removed(cgroup_id, None, now);
        }
    }

    /// The path of a cgroup, of one that is gone lately too.
    #[must_use]
    pub fn cgroup_path(&self, cgroup_id: u64) -> Option<&str> {
        self.cgroups.path(cgroup_id)
    }

    /// What the log must say since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Notes whose network namespace this is, so that what others send in it can be told.
    pub fn learn(&mut self, key: &FlowKey, now: Instant) {
        let owner = self.owner_of(key.cgroup_id, key.pid);
        if let Owner::Container(found) = owner {
            if !self.containers.contains_key(&found.id) {
                self.meet(key.cgroup_id, &found, now);
            }
            if key.netns_cookie != self.host_namespace {
                self.namespaces.entry(key.netns_cookie).or_insert(found.id);
            }
        }
    }

    /// Whose flow it is, as far as is known by now. `comm` is the sender's, NUL-padded.
    pub fn attribute(&mut self, key: &FlowKey, comm: &[u8; 16]) -> Attribution {
        let (path, owner) = match self.cgroups.get(key.cgroup_id, &self.proc, key.pid) {
            Some(found) => (Some(Arc::from(found.path.as_str())), found.owner.clone()),
            None => (None, Owner::Host),
        };
        match owner {
            Owner::Container(found) => self.container_origin(&found.id, path, None),
            Owner::Unit(_) | Owner::Host if self.is_engines(key, comm) => {
                let id = self.namespaces[&key.netns_cookie].clone();
                self.container_origin(&id, path, Some(Via::Engine))
            }
            Owner::Unit(name) => self.other_origin(&encode(&name), path),
            Owner::Host => self.other_origin(HOST, path),
        }
    }

    /// To whom losses in a cgroup are told.
    pub fn concerned(&mut self, cgroup_id: u64) -> Concerned {
        let Some(found) = self.cgroups.get(cgroup_id, &self.proc, 0).cloned() else {
            return Concerned::Everybody;
        };
        let workload = match &found.owner {
            Owner::Container(container) => {
                let known = self.containers.get(&container.id);
                match known.and_then(|known| known.naming.workload()) {
                    None => return Concerned::Everybody,
                    Some((workload, selected)) => selected.then(|| workload.clone()),
                }
            }
            Owner::Unit(name) => self.other_workload(&encode(name), Some(&found.path)),
            Owner::Host => self.other_workload(HOST, Some(&found.path)),
        };
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
            let exe = std::fs::read_link(self.proc.join(key.pid.to_string()).join("exe")).ok()?;
            Some(exe.file_name()?.as_encoded_bytes() == DOCKERD)
        };
        comm.starts_with(DOCKERD)
            && self.namespaces.contains_key(&key.netns_cookie)
            && runs().unwrap_or(false)
    }

    fn meet(&mut self, cgroup_id: u64, found: &ContainerRef, now: Instant) {
        if self.containers.contains_key(&found.id) {
            return;
        }
        let container = Container {
            id: found.id.clone(),
            runtime: found.runtime.name().to_owned(),
            pod: found.pod_uid.clone(),
            ..Container::default()
        };
        let path = self.cgroups.get(cgroup_id, &self.proc, 0);
        let path = path.map(|found| found.path.clone()).unwrap_or_default();
        // Of nested cgroups the container's own is the outermost; its id outlives the others.
        let mut known = Known {
            reference: found.clone(),
            container: Arc::new(container),
            run: run_id(&[&self.boot_id, &found.id, &cgroup_id.to_string()]),
            cgroup_id,
            path,
            naming: Naming::Asked { since: now },
        };
        let has_engine = found.runtime == Runtime::Docker;
        if !has_engine || !self.questions.ask(&found.id) {
            Self::settle(&mut known, &self.selection, &mut self.changes);
        }
        if self.selection.is_by_container() && known.naming.workload().is_none_or(|(_, is)| is) {
            self.changes.push(Change::Watch {
                cgroup_id,
                path: known.path.clone(),
            });
        }
        self.containers.insert(found.id.clone(), known);
    }

    fn container_origin(
        &self,
        id: &str,
        cgroup_path: Option<Arc<str>>,
        via: Option<Via>,
    ) -> Attribution {
        let Some(known) = self.containers.get(id) else {
            return Attribution::Waiting;
        };
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

    fn other_origin(&self, workload: &str, cgroup_path: Option<Arc<str>>) -> Attribution {
        let Some(workload) = self.other_workload(workload, cgroup_path.as_deref()) else {
            return Attribution::NotSelected;
        };
        Attribution::Known(Origin {
            run: self.boot_run(&workload),
            workload,
            cgroup_path,
            container: None,
            via: None,
        })
    }

    /// The workload of what is in no container: the nearest of the chosen cgroups, or `workload`
    /// where none was chosen; `None` if it is not selected.
    fn other_workload(&self, workload: &str, cgroup_path: Option<&str>) -> Option<Arc<str>> {
        let path = cgroup_path.unwrap_or_default();
        let chosen = self.selection.cgroups.iter();
        let nearest = chosen
            .filter(|chosen| is_below(path, chosen))
            .max_by_key(|chosen| chosen.len());
        match nearest {
            Some(cgroup) => {
                let name = cgroup.rsplit('/').next().unwrap_or(workload);
                Some(encode(name).into())
            }
            None => self.selects_everything().then(|| workload.into()),
        }
    }

    fn selects_everything(&self) -> bool {
        self.selection.containers.is_empty() && self.selection.cgroups.is_empty()
    }
}

impl Naming {
    /// The name, and whether the container is to be recorded.
    fn workload(&self) -> Option<(&Arc<str>, bool)> {
        match self {
            Self::Asked { .. } => None,
            Self::Named { workload, selected } | Self::Provisional { workload, selected } => {
                Some((workload, *selected))
            }
        }
    }
}

fn unwatch(known: &Known, selection: &Selection, changes: &mut Vec<Change>) {
    if selection.is_by_container() {
        changes.push(Change::Unwatch {
            cgroup_id: known.cgroup_id,
        });
    }
}

impl Selection {
    /// Whether hooks are attached to each chosen container, and not to all that is above.
    #[must_use]
    pub fn is_by_container(&self) -> bool {
        !self.containers.is_empty() && self.cgroups.is_empty()
    }
}

/// Whether a container of these names in that cgroup is to be recorded.
fn selects(selection: &Selection, path: &str, names: &[&str]) -> bool {
    let by_name = |pattern: &glob::Pattern| names.iter().any(|name| pattern.matches(name));
    let Selection {
        containers,
        cgroups,
    } = selection;
    // The hooks are attached to the chosen cgroups alone: nothing else is seen.
    let is_seen = cgroups.is_empty() || cgroups.iter().any(|chosen| is_below(path, chosen));
    is_seen && (containers.is_empty() || containers.iter().any(by_name))
}

/// A container's name as a workload's. What is no container keeps its own names: a container
/// that is called like the host or like a unit gets its first letter spelled out.
fn container_workload(name: &str) -> Arc<str> {
    let is_taken = name == HOST || name.ends_with(".service") || name.ends_with(".scope");
    match name.as_bytes().split_first() {
        Some((first, _)) if is_taken && first.is_ascii() => {
            format!("%{first:02X}{}", encode(&name[1..])).into()
        }
        Some(_) | None => encode(name).into(),
    }
}

fn is_below(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cgroup.ends_with('/'))
}

fn describe(container: &Container, info: ContainerInfo) -> Container {
    Container {
        name: Some(info.name),
        image: info.image,
        labels: info.labels,
        ..container.clone()
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
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::enrich::docker;

    #[test]
    fn no_container_takes_the_hosts_or_a_units_name() {
        assert_eq!(&*container_workload("agent"), "agent");
        assert_eq!(&*container_workload("host"), "%68ost");
        assert_eq!(&*container_workload("ssh.service"), "%73sh.service");
        assert_eq!(&*container_workload("a b"), "a%20b");
        assert_eq!(&*container_workload(""), "%");
    }

    #[test]
    fn a_container_outside_the_chosen_cgroups_is_not_recorded() {
        let selection = Selection {
            cgroups: vec!["/agents".to_owned()],
            ..Selection::default()
        };
        assert!(selects(&selection, "/agents/docker-1.scope", &["a"]));
        assert!(!selects(&selection, "/system.slice/docker-2.scope", &["a"]));
        assert!(selects(&Selection::default(), "/docker/3", &["a"]));
    }

    #[tokio::test]
    async fn losses_go_to_the_log_that_flows_go_to() {
        let mount = tempfile::tempdir().unwrap();
        let ids = ["chosen", "other"].map(|name| {
            let path = mount.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::metadata(path).unwrap().ino()
        });
        let (questions, _answers) = docker::spawn(mount.path().join("no-engine"));
        let selection = Selection {
            cgroups: vec!["/chosen".to_owned()],
            ..Selection::default()
        };
        let mut machine = Machine::new(
            mount.path(),
            CgroupIndex::walk(mount.path()).unwrap(),
            0,
            selection,
            questions,
            Instant::now(),
        );
        let chosen = Concerned::Workload("chosen".into());
        assert_eq!(machine.concerned(ids[0]), chosen);
        assert_eq!(machine.concerned(ids[1]), Concerned::Nobody);
    }
}
