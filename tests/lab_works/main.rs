//! The lab's own smoke test: what the other tests stand on. Needs root; without, it is skipped.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, process::Stdio, time::Duration};

use lab::{
    Cgroup, ContainerSpec, DNS, Docker, Internet, Kind, Namespace, Plan, agent_image, agent_plan,
    binary, is_root_or_skip, output,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Runs the agent in `client` and returns what it printed.
fn agent(client: &Namespace, steps: &[&str]) -> String {
    let agent = binary("sample-agent").unwrap();
    output(client.command(agent).args(steps)).unwrap()
}

#[test]
fn a_namespace_reaches_the_little_internet() {
    if !is_root_or_skip("a_namespace_reaches_the_little_internet") {
        return;
    }
    let plan = agent_plan()
        .server(Kind::UdpEcho, "203.0.113.9:9")
        .server(Kind::TcpReset, "203.0.113.9:10");
    let internet = Internet::start(&plan).unwrap();
    let client = internet.client("client").unwrap();
    for (steps, expected) in [
        (
            "tcp 198.51.100.20:443",
            "tcp 198.51.100.20:443: ok 198.51.100.20:443",
        ),
        (
            "tcp [2001:db8::20]:443",
            "tcp [2001:db8::20]:443: ok [2001:db8::20]:443",
        ),
        (
            "tcp 198.51.100.20:444",
            "tcp 198.51.100.20:444: Connection refused (os error 111)",
        ),
        (
            "tcp 203.0.113.9:10",
            "tcp 203.0.113.9:10: Connection reset by peer (os error 104)",
        ),
        ("udp 203.0.113.9:9", "udp 203.0.113.9:9: ok 203.0.113.9:9"),
        (
            "udp-connected 203.0.113.9:9",
            "udp-connected 203.0.113.9:9: ok 203.0.113.9:9",
        ),
        (
            "udp-probe 203.0.113.9:9",
            "udp-probe 203.0.113.9:9: ok 203.0.113.9:9",
        ),
        (
            "ntp time.example:123",
            "ntp time.example:123: ok 198.51.100.123:123",
        ),
        (
            "lookup search.example 443",
            "lookup search.example: ok 203.0.113.80:443",
        ),
    ] {
        let steps: Vec<&str> = steps.split(' ').collect();
        assert_eq!(agent(&client, &steps), expected);
    }
    let missing = agent(&client, &["lookup", "no.such.example", "443"]);
    assert!(missing.contains("failed to lookup"), "{missing}");
    let docs = agent(&client, &["resolve", "docs.example"]);
    assert_eq!(docs.matches("203.0.113.").count(), 8, "{docs}");
}

#[test]
fn a_black_hole_swallows() {
    if !is_root_or_skip("a_black_hole_swallows") {
        return;
    }
    let internet = Internet::start(&Plan::new().black_hole("203.0.113.66")).unwrap();
    let client = internet.client("client").unwrap();
    let told = agent(&client, &["tcp-abandon", "203.0.113.66:443", "200"]);
    assert!(told.ends_with("connection timed out"), "{told}");
}

#[test]
fn the_default_session_succeeds() {
    if !is_root_or_skip("the_default_session_succeeds") {
        return;
    }
    let internet = Internet::start(&agent_plan()).unwrap();
    let client = internet.client("client").unwrap();
    let told = agent(&client, &[]);
    assert!(told.lines().all(|line| line.contains(": ok ")), "{told}");
}

#[test]
fn guards_clean_up() {
    if !is_root_or_skip("guards_clean_up") {
        return;
    }
    let internet = Internet::start(&Plan::new()).unwrap();
    let path = internet.namespace().path();
    assert!(path.exists());
    drop(internet);
    assert!(!path.exists());

    let cgroup = Cgroup::new("group").unwrap();
    let mut sleeper = cgroup
        .command("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    lab::wait_until("the sleeper is in", MINUTE, || {
        let inside = fs::read_to_string(cgroup.path().join("cgroup.procs"))?;
        Ok(inside.contains(&sleeper.id().to_string()).then_some(()))
    })
    .unwrap();
    let path = cgroup.path();
    drop(cgroup);
    sleeper.wait().unwrap();
    assert!(!path.exists());
}

#[test]
fn containers_reach_the_little_internet() {
    if !is_root_or_skip("containers_reach_the_little_internet") {
        return;
    }
    let docker = Docker::start().unwrap();
    let _internet = Internet::on_host(&agent_plan()).unwrap();
    let image = agent_image(&docker).unwrap();
    let network = docker.network().unwrap();

    let bridged = ContainerSpec::new(&image).dns(DNS);
    let told = session(
        &docker,
        &bridged.command(&["lookup", "api.model.example", "443"]),
    );
    assert_eq!(told, "lookup api.model.example: ok 198.51.100.20:443");

    let named = ContainerSpec::new(&image).dns(DNS).network(&network);
    let told = session(&docker, &named);
    assert!(told.lines().all(|line| line.contains(": ok ")), "{told}");

    let eight = named.name(&lab::unique("eight"));
    let told = session(&docker, &eight.command(&["resolve", "docs.example"]));
    assert_eq!(told.matches("203.0.113.").count(), 8, "{told}");
}

#[test]
fn a_container_can_be_entered_and_restarted() {
    if !is_root_or_skip("a_container_can_be_entered_and_restarted") {
        return;
    }
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let container = ContainerSpec::new(&image)
        .command(&["sleep", "60000"])
        .run(&docker)
        .unwrap();
    let pid = container.pid().unwrap();
    assert!(container.cgroup().unwrap().ends_with(container.id()));
    assert!(container.ip().unwrap().is_ipv4());
    let told = container.exec(&["/sample-agent", "sleep", "1"]).unwrap();
    assert_eq!(told, "");
    container.restart().unwrap();
    assert_ne!(container.pid().unwrap(), pid);
}

/// Runs a container to its end and returns what it printed.
fn session(docker: &Docker, spec: &ContainerSpec) -> String {
    let container = spec.run(docker).unwrap();
    assert_eq!(container.wait(MINUTE).unwrap(), 0);
    container.logs().unwrap()
}
