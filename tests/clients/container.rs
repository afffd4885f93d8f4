//! The agent in a container of its own, beside a daemon whose socket is mounted into it.

use std::{fs, path::Path, process::Command, time::Duration};

use lab::{ContainerSpec, Daemon, Docker, ImageSpec, Internet, Log, output};
use serde_json::Value;

use crate::{
    module::repository,
    score::{Score, Truth},
    world::{flows, needs_root, plan},
};

const LIMIT: Duration = Duration::from_secs(2400);

/// The host's programs and libraries, and Python's, read-only where they are here.
fn host_folders() -> Vec<String> {
    let python = repository("tests/clients/.venv/bin/python");
    let script = "import sys; print(sys.base_prefix)";
    let prefix = output(Command::new(&python).args(["-c", script])).unwrap();
    let folders = ["/usr", "/lib", "/lib64", "/bin", &prefix];
    let mut all: Vec<String> = folders
        .into_iter()
        .filter(|folder| Path::new(folder).is_dir())
        .map(|folder| format!("{folder}:{folder}:ro"))
        .collect();
    for folder in ["clients", "tests/clients"] {
        let folder = fs::canonicalize(repository(folder)).unwrap();
        all.push(format!("{0}:{0}:ro", folder.display()));
    }
    all.dedup();
    all
}

/// The agent with the folder for what it writes, and the one of the socket.
fn agent(image: &lab::Image, folder: &Path, how: &[&str]) -> ContainerSpec {
    let repository = fs::canonicalize(repository(".")).unwrap();
    let inside = |path: &str| repository.join(path).display().to_string();
    let mut spec = ContainerSpec::new(image).option(&["--tmpfs", "/tmp"]);
    for mount in host_folders() {
        spec = spec.option(&["--volume", &mount]);
    }
    let modules = format!("PYTHONPATH={}", inside("clients/python/src"));
    let (python, agent) = (
        inside("tests/clients/.venv/bin/python"),
        inside("tests/clients/agent.py"),
    );
    let flows = flows().to_string();
    let command = [
        &python,
        &agent,
        "--flows",
        &flows,
        "--truth",
        "/told/truth.jsonl",
    ];
    spec.option(&["--volume", &format!("{}:/told", folder.display())])
        .option(&[
            "--volume",
            &format!("{}:/run/egress-tracer", folder.display()),
        ])
        .option(&["--env", &modules, "--env", "LANGSMITH_TRACING=false"])
        .command(&[&command, how].concat())
}

#[test]
fn each_flow_of_an_agent_in_a_container_is_its_calls() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let _internet = Internet::on_host(&plan()).unwrap();
    let image = ImageSpec::default().text("/etc/hosts", "127.0.0.1 localhost\n");
    let image = docker.build(&image).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spec = agent(&image, folder.path(), &["--mark"]);
    let container = spec.create(&docker).unwrap();
    let socket = folder.path().join("mark.sock");
    let out = tempfile::tempdir().unwrap();
    let options = [
        "--container",
        container.name(),
        "--mark-socket",
        socket.to_str().unwrap(),
    ];
    let daemon = Daemon::start(out.path(), &options).unwrap();
    container.start().unwrap();
    let code = container.wait(LIMIT).unwrap();
    assert_eq!(code, 0, "{}", container.logs().unwrap());
    eprintln!("{}", container.logs().unwrap());
    daemon.stop().unwrap();
    let log = Log::read(&out.path().join(container.name()).join("flows.jsonl")).unwrap();
    let score = Score::of(&log, &Truth::read(&folder.path().join("truth.jsonl")));
    score.check(flows());
    assert_eq!(score.known_as("ambiguous"), 0, "{score}");
    let registered: Vec<&Value> = log.of_type("registered").collect();
    assert!(
        registered.iter().any(|it| it["tools"][5] == "never_used"),
        "{registered:?}"
    );
}
