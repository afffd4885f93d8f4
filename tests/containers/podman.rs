//! Podman's containers, root's and a user's, by its Docker API.

use std::fs;

use lab::{Docker, Podman, agent_image, unique};
use serde_json::Value;

use crate::world::{Recording, container, gaps, needs_root};

const CONNECT: [&str; 2] = ["tcp", "127.0.0.1:9"];

/// Ten containers that end at once, each with its name, image and labels.
fn short_lives(podman: &Podman) {
    const TIMES: usize = 10;
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    podman.load(&image).unwrap();
    let group = unique("podman");
    let label = format!("egress.test={group}");
    let socket = podman.socket();
    let mut recording = Recording::start(&[
        "--engine",
        socket.to_str().unwrap(),
        "--label",
        &label,
        "--workload-by",
        "label:egress.test",
    ]);
    for turn in 0..TIMES {
        let name = format!("{group}-{turn}");
        let options = ["--rm", "--label", &label, "--name", &name];
        podman.run(&image, &options, &CONNECT).unwrap();
    }
    recording.log_until(&group, |log| log.count("127.0.0.1", 9) >= TIMES as u64);
    recording.stop();
    let log = recording.log(&group);
    for turn in 0..TIMES {
        let name = format!("{group}-{turn}");
        let mut flows = log.flows().map(container);
        let found = flows
            .find(|container| container["name"] == name.as_str())
            .unwrap();
        assert_eq!(found["runtime"], "podman");
        assert!(
            found["image"].as_str().unwrap().contains(image.name()),
            "{found}"
        );
        assert!(
            found["image_digest"].as_str().unwrap().contains("sha256:"),
            "{found}"
        );
        assert_eq!(found["labels"]["egress.test"], group.as_str());
    }
    assert_eq!(
        log.of_type("alias").collect::<Vec<_>>(),
        Vec::<&Value>::new()
    );
}

#[test]
fn roots_containers_have_their_names() {
    needs_root!();
    short_lives(&Podman::rootful().unwrap());
}

#[test]
fn a_users_containers_have_their_names() {
    needs_root!();
    short_lives(&Podman::rootless().unwrap());
}

#[test]
fn the_oci_runtime_is_asked_for_in_podmans_own_api() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    // Needed for as long as the container is there.
    let folder = tempfile::tempdir().unwrap();
    let podman = Podman::rootful().unwrap();
    podman.load(&image).unwrap();
    let runtime = folder.path().join("kata-runtime");
    std::os::unix::fs::symlink("/usr/sbin/runc", &runtime).unwrap();
    let name = unique("podman-kata");
    let socket = podman.socket();
    let arguments = ["--engine", socket.to_str().unwrap(), "--container", &name];
    let mut recording = Recording::start(&arguments);
    let path = fs::canonicalize(folder.path())
        .unwrap()
        .join("kata-runtime");
    let options = ["--detach", "--name", &name];
    podman
        .run_under(&path, &image, &options, &["sleep", "600000"])
        .unwrap();
    recording.log_until(&name, |log| !gaps(log, "other-kernel").is_empty());
    recording.stop();
}
