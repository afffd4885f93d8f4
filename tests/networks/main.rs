//! Docker's networks: its resolver behind NAT, and connections that were open before the daemon.
//! Needs root and Docker; without root, it is skipped.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{path::Path, time::Duration};

use lab::{
    Container, ContainerSpec, Daemon, Docker, Image, ImageSpec, Log, agent_image, is_root_or_skip,
    unique, wait_until,
};
use serde_json::Value;

fn log_until(daemon: &Daemon, container: &Container, enough: impl Fn(&Log) -> bool) -> Log {
    daemon.log_until(container.name(), enough).unwrap()
}

/// The agent's image with a shell beside it.
fn shell_image(docker: &Docker) -> Image {
    let spec = ImageSpec::default()
        .program(&lab::binary("sample-agent").unwrap(), "/sample-agent")
        .and_then(|spec| spec.program(Path::new("/bin/bash"), "/bin/bash"))
        .and_then(|spec| spec.program(Path::new("/bin/sleep"), "/bin/sleep"))
        .unwrap();
    docker.build(&spec).unwrap()
}

fn waits_for(container: &Container, line: &str) {
    wait_until(line, Duration::from_secs(20), || {
        Ok(container.logs()?.contains(line).then_some(()))
    })
    .unwrap();
}

#[test]
fn dockers_resolver_is_told_with_where_it_really_is() {
    if !is_root_or_skip("dockers_resolver_is_told_with_where_it_really_is") {
        return;
    }
    let docker = Docker::start().unwrap();
    let network = docker.network().unwrap();
    let image = agent_image(&docker).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--container", "lab-*"]).unwrap();
    // Nobody answers for the name, and nothing is asked outside of the container: the resolver
    // knows who is on its networks.
    let container = ContainerSpec::new(&image)
        .network(&network)
        .command(&["udp", "127.0.0.11:53", "udp-connected", "127.0.0.11:53"])
        .run(&docker)
        .unwrap();
    let both = |log: &Log| {
        let asked = |channel| {
            log.to("127.0.0.11", Some(53))
                .any(|flow| flow["channel"] == channel)
        };
        asked("sendmsg") && asked("udp-connect")
    };
    let log = log_until(&daemon, &container, both);
    let flows: Vec<&Value> = log
        .to("127.0.0.11", Some(53))
        .filter(|flow| flow["comm"] == "sample-agent" && flow["channel"] != "udp-probe")
        .collect();
    assert!(!flows.is_empty());
    for flow in flows {
        assert_eq!(flow["translated"]["ip"], "127.0.0.11", "{flow}");
        assert_ne!(flow["translated"]["port"], 53, "{flow}");
    }
}

#[test]
fn what_containers_had_open_is_theirs() {
    if !is_root_or_skip("what_containers_had_open_is_theirs") {
        return;
    }
    let docker = Docker::start().unwrap();
    let network = docker.network().unwrap();
    let image = shell_image(&docker);
    let container = |command: &[&str]| {
        ContainerSpec::new(&image)
            .name(&unique("open"))
            .network(&network)
            .command(command)
            .run(&docker)
            .unwrap()
    };
    let agent = "/sample-agent";
    let server = container(&[
        agent,
        "hold",
        "tcp",
        "[::]:443",
        "hold",
        "udp",
        "0.0.0.0:53",
        "wait",
    ]);
    waits_for(&server, "hold 0.0.0.0:53: ok");
    let to = server.ip().unwrap().to_string();
    let [tcp, udp] = [format!("{to}:443"), format!("{to}:53")];
    let client = container(&[agent, "tcp-start", &tcp, "udp-keep", &udp, "wait"]);
    let script =
        format!("(exec 3<>/dev/tcp/{to}/443; sleep 600 & echo given) & wait $!; exec sleep 600");
    let giver = container(&["/bin/bash", "-c", &script]);
    waits_for(&client, "udp-keep");
    waits_for(&giver, "given");

    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--container", "lab-*-open"]).unwrap();
    let open = |log: &Log, direction: &str| {
        let of = |flow: &&Value| flow["channel"] == "preexisting" && flow["direction"] == direction;
        let counts = log
            .flows()
            .filter(of)
            .filter_map(|flow| flow["count"].as_u64());
        counts.sum::<u64>()
    };
    let log = log_until(&daemon, &client, |log| open(log, "egress") >= 2);
    assert_eq!((log.count(&to, 443), log.count(&to, 53)), (1, 1));
    for flow in log.to(&to, None) {
        assert_eq!(flow["exe"], agent, "{flow}");
        assert_eq!(flow["container"]["id"], client.id());
    }
    let log = log_until(&daemon, &giver, |log| open(log, "egress") >= 1);
    let given: Vec<&Value> = log.to(&to, Some(443)).collect();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0]["exe"], "/bin/sleep");
    let log = log_until(&daemon, &server, |log| open(log, "reply") >= 2);
    assert_eq!(open(&log, "egress"), 0);
    daemon.stop().unwrap();
    let policy = folder.path().join(server.name()).join("policy.toml");
    let policy = std::fs::read_to_string(policy).unwrap();
    assert!(!policy.contains("[[allow]]"), "{policy}");
}
