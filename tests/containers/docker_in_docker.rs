//! A Docker daemon inside a container, and a container of that: whose flow is whose.

use lab::{Container, ContainerSpec, Docker, agent_image, wait_until};

use crate::world::{MINUTE, Recording, container, needs_root};

/// All that a daemon needs of what `--privileged` grants: that fails where the machine itself has
/// not every capability.
const CAPABILITIES: [&str; 18] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_PTRACE",
];

/// Makes writable what Docker has mounted read-only, adds the version 2 hierarchy where version 1
/// is beside it, and becomes the host's dockerd.
const DAEMON: &str = "set -e
mkdir -p /run /tmp /var/lib/docker /var/lib/containerd
for folder in /run /var/lib/docker /var/lib/containerd; do mount -t tmpfs none $folder; done
for folder in /proc/sys /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    mountpoint -q $folder && mount -o remount,bind,rw $folder || true
done
if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir -p /sys/fs/cgroup/unified
    mountpoint -q /sys/fs/cgroup/unified || mount -t cgroup2 none /sys/fs/cgroup/unified
fi
exec dockerd --bridge none --iptables=false --ip6tables=false --storage-driver vfs";

/// An image out of the files that the outer container itself runs from.
const IMPORT: &str = "tar -c -C / sample-agent lib lib64 | \
    docker import --change 'ENTRYPOINT [\"/sample-agent\"]' - inner";

fn outer(docker: &Docker, image: &lab::Image) -> Container {
    let mut spec = ContainerSpec::new(image)
        .option(&["--network", "none", "--cgroupns", "private"])
        .option(&["--security-opt", "seccomp=unconfined"])
        .option(&["--security-opt", "apparmor=unconfined"])
        .option(&["--device-cgroup-rule", "a *:* rwm", "--cap-drop", "ALL"])
        // The host's own programs: there is no image to download.
        .option(&["--volume", "/usr:/usr:ro", "--entrypoint", "/usr/bin/sh"])
        .option(&["--volume", "/etc/alternatives:/etc/alternatives:ro"])
        .command(&["-c", DAEMON]);
    for capability in CAPABILITIES {
        spec = spec.option(&["--cap-add", capability]);
    }
    let container = spec.run(docker).unwrap();
    wait_until("the inner dockerd answers", MINUTE, || {
        Ok(container.exec(&["docker", "version"]).ok())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", container.logs()));
    container
}

#[test]
fn a_flow_of_a_container_in_a_container_is_the_inner_ones() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let outer = outer(&docker, &image);
    outer.exec(&["sh", "-c", IMPORT]).unwrap();
    let cgroup = outer.cgroup().unwrap();
    let mut recording = Recording::start(&["--cgroup", &cgroup]);

    let run = ["docker", "run", "--detach", "--network", "none", "inner"];
    let id = outer
        .exec(&[&run[..], &["tcp", "127.0.0.1:9", "wait"]].concat())
        .unwrap();
    outer
        .exec(&["/sample-agent", "tcp", "127.0.0.1:10"])
        .unwrap();
    let inner = format!("docker-{}", &id[..12]);
    let log = recording.log_until(&inner, |log| log.count("127.0.0.1", 9) == 1);
    let flow = log.to("127.0.0.1", Some(9)).next().unwrap();
    assert_eq!(container(flow)["id"], id, "{flow}");
    assert_eq!(container(flow)["runtime"], "docker", "{flow}");
    let path = flow["cgroup_path"].as_str().unwrap();
    assert!(path.starts_with(&cgroup) && path.ends_with(&id), "{flow}");
    assert_eq!(log.count("127.0.0.1", 10), 0);

    let log = recording.log_until(outer.name(), |log| log.count("127.0.0.1", 10) == 1);
    let flow = log.to("127.0.0.1", Some(10)).next().unwrap();
    assert_eq!(container(flow)["name"], outer.name(), "{flow}");
    assert_eq!(log.count("127.0.0.1", 9), 0);
    recording.stop();
}
