//! Unix sockets: only what leads out is told, never what a workload says to itself; and sockets that
//! come from another cgroup.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
    process,
};

use lab::{Cgroup, Daemon, Log};

use crate::{
    channels::in_network_of,
    world::{SERVER, World, needs_root, path_text},
};

/// `dest_path` and `count` of what was sent to Unix sockets, sorted.
fn told(log: &Log) -> Vec<(String, u64)> {
    let unix = log.flows().filter(|flow| flow["channel"] == "unix");
    let mut told: Vec<(String, u64)> = unix
        .map(|flow| {
            let path = flow["dest_path"].as_str().unwrap_or("?").to_owned();
            (path, flow["count"].as_u64().unwrap())
        })
        .collect();
    told.sort();
    told
}

#[test]
fn only_what_leads_out_is_told_and_no_rule_is_made_of_it() {
    needs_root!();
    let world = World::new();
    let path = world.path("engine.sock");
    let _engine = UnixListener::bind(&path).unwrap();
    let path = path_text(&path);
    // Besides, it speaks to itself: by socketpair(), and to a service of its own.
    let (said, log) = world.go("unix", &path, 0);
    assert!(said.contains("done"), "{said}");
    assert_eq!(told(&log), [(path.clone(), 2)]);
    assert_eq!(log.of_type("gap").count(), 0, "{log:?}");
    let policy = fs::read_to_string(world.path("out/policy.toml")).unwrap();
    assert!(!policy.contains("[[allow]]"), "{policy}");
    let evidence = fs::read(world.path("out/policy.evidence.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let [way] = &evidence["unaddressed"].as_array().unwrap()[..] else {
        panic!("{evidence}");
    };
    assert_eq!(
        (&way["channel"], &way["to"]),
        (&"unix".into(), &path.into())
    );
}

#[test]
fn a_service_inside_the_chosen_cgroup_is_not_outside() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("ways").unwrap();
    let (caller, server) = (cgroup.path().join("caller"), cgroup.path().join("server"));
    fs::create_dir(&caller).unwrap();
    fs::create_dir(&server).unwrap();
    let (inside, outside) = (world.path("inside.sock"), world.path("outside.sock"));
    let _service = UnixListener::bind(&outside).unwrap();
    let out = world.path("daemon");
    let daemon = Daemon::start(&out, &["--cgroup", &cgroup.relative()]).unwrap();
    let script = path_text(&world.client_script());
    let steps = format!(
        "echo $$ > {}/cgroup.procs; python3 {script} unix_serve {} 1 & \
         while [ ! -S {1} ]; do sleep 0.1; done; echo $$ > {}/cgroup.procs; \
         python3 {script} unix {1} 0; python3 {script} unix {} 0; wait",
        server.display(),
        inside.display(),
        caller.display(),
        outside.display(),
    );
    lab::run("sh", &["-c", &steps]).unwrap();
    daemon.stop().unwrap();
    assert_eq!(
        told(&World::daemon_log(&out)),
        [(path_text(&outside), 2)],
        "a service of its own is its own affair"
    );
    fs::remove_dir(&caller).unwrap();
    fs::remove_dir(&server).unwrap();
}

/// Names are the workload's or a neighbour's to choose: many of them neither flood the log nor lose
/// anything in silence.
#[test]
fn more_names_than_are_kept_are_counted() {
    const NAMES: usize = 1500;
    needs_root!();
    let world = World::new();
    let stem = format!("ways-many-{}", process::id());
    let listen = |n: usize| {
        let name = SocketAddr::from_abstract_name(format!("{stem}-{n}")).unwrap();
        UnixListener::bind_addr(&name).unwrap()
    };
    let _services: Vec<UnixListener> = in_network_of(&world, || (0..NAMES).map(listen).collect());
    let (said, log) = world.go("unix_many", &format!("@{stem}"), NAMES.try_into().unwrap());
    assert!(said.contains("done"), "{said}");
    let told = told(&log);
    assert_eq!(told.len(), NAMES);
    let nameless = told.iter().filter(|(path, _)| path == "?").count() as u64;
    let gaps: Vec<_> = log.of_type("gap").collect();
    let lost: u64 = gaps.iter().filter_map(|gap| gap["lost"].as_u64()).sum();
    assert_eq!(lost, nameless, "{gaps:?}");
    for gap in gaps {
        assert_eq!(
            (gap["what"].as_str(), gap["severity"].as_str()),
            (Some("socket-names"), Some("detail"))
        );
    }
}

#[test]
fn a_socket_from_another_cgroup_is_its_users() {
    needs_root!();
    let world = World::new();
    let (maker, user) = (Cgroup::new("maker").unwrap(), Cgroup::new("user").unwrap());
    let out = world.path("daemon");
    let chosen = ["--cgroup", &maker.relative(), "--cgroup", &user.relative()];
    let daemon = Daemon::start(&out, &chosen).unwrap();
    let script = path_text(&world.client_script());
    let mut command = world.client().command("python3");
    command.args([&script, "inherited", SERVER, "7"]);
    lab::output(command.arg(maker.path()).arg(user.path())).unwrap();
    daemon.stop().unwrap();
    let log_of = |cgroup: &Cgroup| read(&out, cgroup);
    assert_eq!(log_of(&user).count(SERVER, 7), 1);
    assert_eq!(log_of(&maker).count(SERVER, 7), 0);
}

/// The log of one chosen cgroup; empty if there is none.
fn read(out: &Path, cgroup: &Cgroup) -> Log {
    let name = cgroup.relative();
    Log::read(&out.join(&name[1..]).join("flows.jsonl")).unwrap_or(Log(Vec::new()))
}
