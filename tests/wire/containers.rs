//! Docker's own resolver answers in the container's network namespace, from the engine's cgroup.

use lab::{ContainerSpec, DNS, Daemon, Docker, Internet, Kind, Plan, agent_image, unique};

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
    let is_there = |log: &lab::Log| log.count(SERVER, 80) == 1;
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
