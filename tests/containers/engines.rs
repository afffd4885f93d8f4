//! Engines that are late, lost, silent, or talk nonsense: they cost names, never flows.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use lab::{Cgroup, ContainerSpec, Docker, PrivateDocker, agent_image, binary, output, unique};

use crate::world::{Recording, container, needs_root};

/// A cgroup as Docker makes them, for a container that no engine knows.
struct Unknown {
    parent: Cgroup,
    path: PathBuf,
    id: String,
}

impl Unknown {
    fn new(number: u32) -> Self {
        let parent = Cgroup::new("silent").unwrap();
        let id = format!("{:032x}{number:032x}", std::process::id());
        let path = parent.path().join(format!("docker-{id}.scope"));
        fs::create_dir(&path).unwrap();
        Self { parent, path, id }
    }

    /// The agent sends once.
    fn act(&self) {
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&self.path);
        command.arg(binary("sample-agent").unwrap());
        output(command.args(["tcp", "127.0.0.1:9"])).unwrap();
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        let _busy = fs::remove_dir(&self.path);
        let _parent = &self.parent;
    }
}

/// With that engine alone, a container that it does not name is recorded all the same.
fn with_engine(number: u32, socket: &Path) {
    let unknown = Unknown::new(number);
    let engine = ["--docker-socket", socket.to_str().unwrap()];
    let none = [
        "--podman-socket",
        "/nonexistent",
        "--cri-socket",
        "/nonexistent",
    ];
    let options = [&engine[..], &none].concat();
    let mut recording = Recording::start(&options);
    unknown.act();
    // The first twelve digits are the same for every one of these.
    let workload = format!("docker-{}", &unknown.id[..12]);
    let is_mine = |flow: &serde_json::Value| container(flow)["id"] == unknown.id.as_str();
    let log = recording.log_until(&workload, |log| log.flows().any(is_mine));
    assert_eq!(log.flows().filter(|flow| is_mine(flow)).count(), 1);
    recording.stop();
}

#[test]
fn an_engine_that_accepts_and_says_nothing_costs_the_name_only() {
    needs_root!();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    // Never accepted: the kernel's queue takes the connections.
    let _listener = UnixListener::bind(&socket).unwrap();
    with_engine(1, &socket);
}

#[test]
fn an_engine_that_talks_nonsense_costs_the_name_only() {
    needs_root!();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for (turn, stream) in listener.incoming().flatten().enumerate() {
            let nonsense: &[u8] = match turn % 3 {
                0 => b"\x1b[31m\0\xff no HTTP at all",
                1 => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"Name\":1",
                _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n[[[[[[",
            };
            let mut stream = stream;
            let _gone = stream.write_all(nonsense);
        }
    });
    with_engine(2, &socket);
}

#[test]
fn an_engine_that_is_absent_costs_the_name_only() {
    needs_root!();
    with_engine(3, Path::new("/nonexistent/docker.sock"));
}

#[test]
fn a_stream_that_is_lost_is_taken_up_again() {
    needs_root!();
    let shared = Docker::start().unwrap();
    let image = agent_image(&shared).unwrap();
    let docker = PrivateDocker::start().unwrap();
    docker.load(&image).unwrap();
    let group = unique("lost");
    let label = format!("egress.test={group}");
    let socket = docker.socket();
    let arguments = ["--engine", socket.to_str().unwrap(), "--label", &label];
    let mut recording =
        Recording::start(&[&arguments[..], &["--workload-by", "label:egress.test"]].concat());
    let once = |name: &str| {
        let options = [
            "run",
            "--rm",
            "--network",
            "none",
            "--label",
            &label,
            "--name",
            name,
        ];
        docker
            .run(&[&options[..], &[image.name(), "tcp", "127.0.0.1:9"]].concat())
            .unwrap();
    };
    for turn in 0..3 {
        for number in 0..5 {
            once(&format!("{group}-{turn}-{number}"));
        }
        docker.restart().unwrap();
    }
    once(&format!("{group}-last"));
    recording.log_until(&group, |log| log.count("127.0.0.1", 9) >= 16);
    recording.stop();
    let log = recording.log(&group);
    assert_eq!(log.count("127.0.0.1", 9), 16);
    assert!(
        log.flows()
            .all(|flow| container(flow)["image"] == image.name())
    );
    assert!(recording.path().join(&group).exists());
}

/// What ends a line, a string, a comment; what colours a terminal; what is too long.
const HOSTILE: [&str; 5] = [
    "a\n{\"type\":\"flow\"}",
    "\u{1b}[31mred\u{1b}[0m\r\u{8}",
    "q\"uo'te\\ # ; }",
    "\u{9b}31m\u{202e}\u{feff}",
    "../../etc/passwd",
];

#[test]
fn hostile_labels_are_harmless_in_what_is_written() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let group = unique("hostile");
    let mut recording = Recording::start(&["--label", &group, "--workload-by", "label:evil"]);
    let long = "x".repeat(4096);
    for evil in HOSTILE.iter().copied().chain([long.as_str()]) {
        let spec = ContainerSpec::new(&image).option(&["--network", "none", "--label", &group]);
        // Docker takes no white space in keys.
        let key = evil.replace(char::is_whitespace, "");
        let labels = [format!("evil={evil}"), format!("{key}=x")];
        let spec = spec.option(&["--label", &labels[0], "--label", &labels[1]]);
        let spec = spec.command(&["tcp", "127.0.0.1:9"]);
        let made = spec.run(&docker).unwrap();
        made.wait(crate::world::MINUTE).unwrap();
    }
    let count = || {
        let logs = fs::read_dir(recording.path()).unwrap().flatten();
        let logs =
            logs.filter_map(|entry| fs::read_to_string(entry.path().join("flows.jsonl")).ok());
        logs.filter(|text| text.contains(&format!("{group:?}")))
            .count()
    };
    lab::wait_until("every workload has its log", crate::world::MINUTE, || {
        Ok((count() > HOSTILE.len()).then_some(()))
    })
    .unwrap();
    let stderr = recording.stop();
    assert!(
        !stderr.chars().any(|c| c.is_control() && c != '\n'),
        "{stderr:?}"
    );
    for path in files(recording.path()) {
        let name = path
            .strip_prefix(recording.path())
            .unwrap()
            .to_str()
            .unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        let text = fs::read_to_string(&path).unwrap();
        let raw = text
            .chars()
            .find(|c| c.is_control() && !"\n\t".contains(*c));
        assert_eq!(raw, None, "{}", path.display());
        if name.ends_with(".jsonl") {
            for line in text.lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(record["type"].is_string(), "{line}");
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
