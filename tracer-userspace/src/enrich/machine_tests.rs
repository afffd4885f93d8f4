//! What the machine decides, without an engine and without a kernel.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{fs, os::unix::fs::MetadataExt as _};

use super::*;
use crate::{
    enrich::engine::{
        self, Answer,
        info::ContainerInfo,
        sockets::{Places, Trust},
    },
    record::{GapKind, Severity},
};

const OUTER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A machine whose cgroups are a folder, and that has no engine.
struct Fixture {
    mount: tempfile::TempDir,
    machine: Machine,
    _answers: tokio::sync::mpsc::Receiver<Answer>,
}

fn fixture(selection: Selection) -> Fixture {
    let mount = tempfile::tempdir().unwrap();
    let places = Places {
        docker: Vec::new(),
        cri: Vec::new(),
        users: None,
    };
    let (questions, answers) = engine::spawn(places, Vec::new());
    let machine = Machine::new(
        mount.path(),
        CgroupIndex::walk(mount.path()).unwrap(),
        0,
        selection,
        WorkloadBy::default(),
        questions,
        Instant::now(),
    );
    Fixture {
        mount,
        machine,
        _answers: answers,
    }
}

impl Fixture {
    /// A cgroup is made; its id.
    fn make(&mut self, path: &str) -> u64 {
        let directory = self.mount.path().join(&path[1..]);
        fs::create_dir_all(&directory).unwrap();
        let id = fs::metadata(directory).unwrap().ino();
        self.machine
            .cgroup_created(id, Some(path.to_owned()), Instant::now());
        id
    }

    fn name(&mut self, id: &str, name: &str, runtime: &str, trust: Trust) {
        let info = ContainerInfo {
            engine: "docker".into(),
            name: name.into(),
            oci_runtime: Some(runtime.into()),
            ..ContainerInfo::default()
        };
        self.machine.named(Answer {
            id: id.into(),
            info: Some(info),
            trust,
        });
    }

    fn named(&mut self, id: &str, name: &str) {
        self.name(id, name, "runc", Trust::Machine);
    }

    fn changes(&mut self) -> Vec<Change> {
        self.machine.take_changes()
    }

    /// Which cgroups are to get hooks, and which to lose them.
    fn watches(&mut self) -> Vec<(bool, u64)> {
        let changes = self.changes().into_iter();
        changes
            .filter_map(|change| match change {
                Change::Watch { cgroup_id, .. } => Some((true, cgroup_id)),
                Change::Unwatch { cgroup_id } => Some((false, cgroup_id)),
                Change::RunBegan { .. }
                | Change::RunEnded { .. }
                | Change::Renamed { .. }
                | Change::Missing { .. } => None,
            })
            .collect()
    }

    fn workload(&mut self, cgroup_id: u64) -> Option<String> {
        match self.machine.attribute(&key(cgroup_id), &[0; 16], None) {
            Attribution::Known(origin) => Some(origin.workload.to_string()),
            Attribution::Waiting | Attribution::NotSelected => None,
        }
    }
}

fn key(cgroup_id: u64) -> FlowKey {
    FlowKey {
        cgroup_id,
        ..bytemuck::Zeroable::zeroed()
    }
}

fn agents() -> Selection {
    Selection {
        containers: vec![glob::Pattern::new("agent*").unwrap()],
        ..Selection::default()
    }
}

fn docker(id: &str) -> String {
    format!("/docker/{id}")
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes
        .iter()
        .map(|change| match change {
            Change::RunBegan { .. } => "began",
            Change::RunEnded { .. } => "ended",
            Change::Renamed { .. } => "renamed",
            Change::Missing { .. } => "missing",
            Change::Watch { .. } => "watch",
            Change::Unwatch { .. } => "unwatch",
        })
        .collect()
}

#[tokio::test]
async fn losses_go_to_the_log_that_flows_go_to() {
    let selection = Selection {
        cgroups: vec!["/chosen".to_owned()],
        ..Selection::default()
    };
    let mut fixture = fixture(selection);
    let ids = ["/chosen", "/other"].map(|path| fixture.make(path));
    let chosen = Concerned::Workload("chosen".into());
    assert_eq!(fixture.machine.concerned(ids[0]), chosen);
    assert_eq!(fixture.machine.concerned(ids[1]), Concerned::Nobody);
}

#[tokio::test]
async fn a_container_is_watched_until_it_proves_not_to_be_chosen() {
    let mut fixture = fixture(agents());
    let first = fixture.make(&docker(OUTER));
    assert_eq!(fixture.watches(), [(true, first)]);
    fixture.named(OUTER, "agent-1");
    assert_eq!(fixture.watches(), []);
    let second = fixture.make(&docker(INNER));
    assert_eq!(fixture.watches(), [(true, second)]);
    fixture.named(INNER, "other");
    assert_eq!(fixture.watches(), [(false, second)]);
    fixture.machine.cgroup_removed(first, None, Instant::now());
    assert_eq!(fixture.watches(), [(false, first)]);
}

#[tokio::test]
async fn what_is_known_not_to_be_chosen_is_never_watched() {
    let mut fixture = fixture(agents());
    fixture.named(OUTER, "other");
    fixture.make(&docker(OUTER));
    // Attached and taken away at once, before anything runs, or not at all: never left behind.
    let watches = fixture.watches();
    assert!(watches.is_empty(), "{watches:?}");
}

#[tokio::test]
async fn nothing_is_watched_where_everything_is_seen() {
    let mut fixture = fixture(Selection::default());
    fixture.make(&docker(OUTER));
    fixture.named(OUTER, "agent");
    assert_eq!(fixture.watches(), []);
}

#[tokio::test]
async fn nothing_is_watched_twice() {
    let selection = Selection {
        cgroups: vec!["/agents".to_owned()],
        ..agents()
    };
    let mut fixture = fixture(selection);
    fixture.make(&format!("/agents/docker-{OUTER}.scope"));
    assert_eq!(fixture.watches(), []);
    // Out of what was chosen: never recorded, whatever it is called.
    let outside = fixture.make(&docker(INNER));
    fixture.named(INNER, "agent");
    assert_eq!(fixture.workload(outside), None);
}

#[tokio::test]
async fn a_container_inside_a_watched_one_is_seen_already() {
    let mut fixture = fixture(agents());
    let outer = fixture.make(&docker(OUTER));
    let inner = fixture.make(&format!("{}/docker/{INNER}", docker(OUTER)));
    assert_eq!(fixture.watches(), [(true, outer)]);
    // The inner one first, so that nothing falls between.
    fixture.named(OUTER, "other");
    assert_eq!(fixture.watches(), [(true, inner), (false, outer)]);
}

#[tokio::test]
async fn a_name_that_comes_late_is_an_alias_and_one_that_does_not_match_ends_the_run() {
    let mut fixture = fixture(agents());
    let ids = [OUTER, INNER].map(|id| fixture.make(&docker(id)));
    fixture.machine.settle_all();
    assert_eq!(fixture.workload(ids[0]).unwrap(), "docker-0123456789ab");
    fixture.changes();
    fixture.named(OUTER, "agent-1");
    assert_eq!(names(&fixture.changes()), ["began", "renamed"]);
    assert_eq!(fixture.workload(ids[0]).unwrap(), "agent-1");
    fixture.named(INNER, "other");
    assert_eq!(names(&fixture.changes()), ["ended", "unwatch"]);
    assert_eq!(fixture.workload(ids[1]), None);
}

#[tokio::test]
async fn a_container_that_was_over_before_it_had_a_name_has_begun_and_ended() {
    let mut fixture = fixture(Selection::default());
    let id = fixture.make(&docker(OUTER));
    fixture.machine.cgroup_removed(id, None, Instant::now());
    assert_eq!(fixture.changes(), []);
    fixture.named(OUTER, "agent");
    assert_eq!(names(&fixture.changes()), ["began", "ended"]);
    assert_eq!(fixture.workload(id).unwrap(), "agent");
}

#[tokio::test]
async fn a_container_that_is_started_again_is_another_run_and_may_have_another_name() {
    let mut fixture = fixture(Selection::default());
    let first = fixture.make(&docker(OUTER));
    fixture.named(OUTER, "old");
    // A rename is for the next lifetime.
    fixture.named(OUTER, "new");
    assert_eq!(fixture.workload(first).unwrap(), "old");
    fixture.machine.cgroup_removed(first, None, Instant::now());
    fs::remove_dir(fixture.mount.path().join("docker").join(OUTER)).unwrap();
    fixture.named(OUTER, "new");
    let second = first + (1 << 40);
    let path = Some(docker(OUTER));
    fixture.machine.cgroup_created(second, path, Instant::now());
    assert_eq!(fixture.workload(second).unwrap(), "new");
    // The last flows of the first lifetime.
    assert_eq!(fixture.workload(first).unwrap(), "old");
    assert_eq!(names(&fixture.changes()), ["began", "ended", "began"]);
}

#[tokio::test]
async fn a_users_engine_speaks_for_that_users_containers_only() {
    let mut fixture = fixture(Selection::default());
    let id = fixture.make(&docker(OUTER));
    let own = fs::metadata(fixture.mount.path()).unwrap().uid();
    fixture.name(OUTER, "forged", "runc", Trust::User(own + 1));
    assert_eq!(fixture.workload(id), None);
    fixture.name(OUTER, "agent", "runc", Trust::User(own));
    assert_eq!(fixture.workload(id).unwrap(), "agent");
    // The same if it was said beforehand.
    fixture.name(INNER, "forged", "runc", Trust::User(own + 1));
    let id = fixture.make(&docker(INNER));
    assert_eq!(fixture.workload(id), None);
}

#[tokio::test]
async fn a_kernel_of_its_own_is_a_gap_of_that_workload() {
    let mut fixture = fixture(Selection::default());
    fixture.make(&docker(OUTER));
    fixture.name(OUTER, "guest", "io.containerd.kata.v2", Trust::Machine);
    let changes = fixture.changes();
    assert_eq!(names(&changes), ["began", "missing"]);
    let Change::Missing { workload, gap } = &changes[1] else {
        panic!("{changes:?}");
    };
    assert_eq!(workload.as_deref(), Some("guest"));
    assert_eq!(
        (gap.what.clone(), gap.severity),
        (GapKind::OtherKernel, Severity::Destinations)
    );
}

#[tokio::test]
async fn what_nobody_can_place_is_counted() {
    let mut everything = fixture(Selection::default());
    assert_eq!(everything.workload(u64::MAX).unwrap(), HOST);
    assert_eq!(everything.workload(u64::MAX - 1).unwrap(), HOST);
    let changes = everything.changes();
    let Change::Missing { workload, gap } = &changes[0] else {
        panic!("{changes:?}");
    };
    assert_eq!(workload.as_deref(), Some(HOST));
    assert_eq!((gap.lost, gap.severity), (Some(2), Severity::Detail));
    assert_eq!(everything.changes(), []);

    let mut chosen = fixture(agents());
    assert_eq!(chosen.workload(u64::MAX), None);
    let changes = chosen.changes();
    let Change::Missing { workload, gap } = &changes[0] else {
        panic!("{changes:?}");
    };
    assert_eq!(*workload, None);
    assert_eq!(gap.severity, Severity::Destinations);
}

/// Who is in one container, one pod or below one chosen cgroup is together; what is in none has the
/// host's services around it.
#[tokio::test]
async fn who_is_together() {
    let pod = |uid: &str, id: &str| format!("/kubepods/pod{uid}/{}", id.repeat(64));
    let (one, two) = (
        "11111111-2222-3333-4444-555555555555",
        "99999999-2222-3333-4444-555555555555",
    );
    let paths = [
        docker(&"a".repeat(64)),
        docker(&"b".repeat(64)),
        format!("{}/inner", docker(&"a".repeat(64))),
        pod(one, "c"),
        pod(one, "d"),
        pod(two, "e"),
        "/system.slice/docker.service".to_owned(),
        "/system.slice/agent.service".to_owned(),
        "/agents/one".to_owned(),
        "/agents/two".to_owned(),
    ];
    let selection = Selection {
        cgroups: vec!["/agents".to_owned()],
        ..Selection::default()
    };
    let mut fixture = fixture(selection);
    let ids: Vec<u64> = paths.iter().map(|path| fixture.make(path)).collect();
    let mut together = |one: usize, other: u64| fixture.machine.are_together(&key(ids[one]), other);
    assert!(together(0, ids[2]) && together(2, ids[0]) && together(3, ids[4]));
    assert!(!together(0, ids[1]) && !together(3, ids[5]) && !together(0, ids[6]));
    assert!(!together(0, 0), "a listener that is gone may be anybody");
    assert!(together(8, ids[9]) && !together(8, ids[6]));
    assert!(together(7, ids[6]), "nothing shuts a unit in");
}
