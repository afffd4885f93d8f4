//! Docker's own resolver answers in the container's network namespace, from the engine's cgroup.

use std::collections::BTreeSet;

use lab::{
    Container, ContainerSpec, DNS, Daemon, Docker, Image, Internet, Kind, Log, Network, Plan,
    agent_image, unique,
};

use crate::world::{PATIENCE, SERVER, names, needs_root};

#[test]
fn dockers_resolver_counts() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let plan = Plan::new()
        .server(Kind::Http, "198.51.100.7:80")
        .name("api.example", &[SERVER]);
    let _internet = Internet::on_host(&plan).unwrap();
    let (image, network) = (agent_image(&docker).unwrap(), docker.network().unwrap());
    let name = unique("resolver");
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--container", &name]).unwrap();
    let container = ContainerSpec::new(&image)
        .network(&network)
        .dns(DNS)
        .name(&name)
        .command(&["lookup", "api.example", "80"])
        .run(&docker)
        .unwrap();
    assert_eq!(container.wait(PATIENCE).unwrap(), 0);
    let is_there = |log: &Log| log.count(SERVER, 80) == 1;
    let log = daemon.log_until(&name, is_there).unwrap();
    assert_eq!(names(&log, SERVER, 80), ["api.example dns resolved"]);
    let dns = log.of_type("dns").next().unwrap();
    assert_eq!(dns["server"], "127.0.0.11", "{dns}");
    assert_eq!(
        (dns["server_port"].as_u64(), dns.get("own_server")),
        (Some(53), None)
    );
    daemon.stop().unwrap();
}

/// On each network `svc` is another container; on the first, `other` is the same as `svc`.
#[test]
fn containers_that_resolve_a_name_differently_are_never_mixed() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let networks = [docker.network().unwrap(), docker.network().unwrap()];
    let server = |network: &Network, aliases: &[&str]| {
        let options = aliases
            .iter()
            .flat_map(|alias| ["--network-alias", alias])
            .collect::<Vec<_>>();
        let spec = ContainerSpec::new(&image).network(network).option(&options);
        spec.command(&["sleep", "600000"]).run(&docker).unwrap()
    };
    let _servers = [
        server(&networks[0], &["svc", "other"]),
        server(&networks[1], &["svc"]),
    ];
    let group = unique("apart");
    let folder = tempfile::tempdir().unwrap();
    let label = format!("egress.test={group}");
    let daemon = Daemon::start(folder.path(), &["--label", &label]).unwrap();
    let ask = |network: &Network, name: &str| {
        let called = format!("{group}-{}-{name}", network.name());
        let container = asking(&docker, &image, network, &label, &called, name);
        assert_eq!(container.wait(PATIENCE).unwrap(), 0);
        let is_there = |log: &Log| log.flows().any(|flow| flow["dest_port"] == 80);
        let log = daemon.log_until(&called, is_there).unwrap();
        said(&log)
    };
    let first = ask(&networks[0], "svc");
    let second = ask(&networks[1], "svc");
    let third = ask(&networks[0], "other");
    let only = |name: &str| BTreeSet::from([format!("{name} dns resolved")]);
    assert_eq!((&first.1, &second.1), (&only("svc"), &only("svc")));
    assert_ne!(first.0, second.0);
    // The same address, under the name that this container asked for.
    assert_eq!(third, (first.0, only("other")));
    daemon.stop().unwrap();
}

fn asking(
    docker: &Docker,
    image: &Image,
    network: &Network,
    label: &str,
    called: &str,
    name: &str,
) -> Container {
    let spec = ContainerSpec::new(image).network(network).name(called);
    let spec = spec.option(&["--label", label]);
    spec.command(&["lookup", name, "80"]).run(docker).unwrap()
}

/// Where the connections to port 80 went, and under which names.
fn said(log: &Log) -> (BTreeSet<String>, BTreeSet<String>) {
    let went: BTreeSet<String> = log
        .flows()
        .filter(|flow| flow["dest_port"] == 80)
        .map(|flow| flow["dest_ip"].as_str().unwrap().to_owned())
        .collect();
    let names = went.iter().flat_map(|ip| names(log, ip, 80)).collect();
    (went, names)
}
