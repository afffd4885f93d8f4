//! Docker's containers.

use std::{collections::BTreeSet, thread};

use lab::{
    Container, ContainerSpec, Docker, Image, agent_image, cgroup2_root, run, unique, wait_until,
};

use crate::world::{MINUTE, Recording, container, gaps, needs_root};

/// One attempt to connect, and the end.
const CONNECT: [&str; 2] = ["tcp", "127.0.0.1:9"];

/// A container without a network but its own loopback.
fn spec(image: &Image) -> ContainerSpec {
    ContainerSpec::new(image).option(&["--network", "none"])
}

#[test]
fn what_lived_for_milliseconds_has_its_name_and_image_a_hundred_times_of_a_hundred() {
    needs_root!();
    const TIMES: usize = 100;
    const AT_ONCE: usize = 4;
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let group = unique("short");
    let label = format!("egress.test={group}");
    let mut recording =
        Recording::start(&["--label", &label, "--workload-by", "label:egress.test"]);
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (image, group, label) = (image.name(), &group, &label);
            scope.spawn(move || {
                for turn in 0..TIMES / AT_ONCE {
                    let name = format!("{group}-{worker}-{turn}");
                    let options = ["run", "--rm", "--network", "none", "--label", label];
                    run(
                        "docker",
                        &[&options[..], &["--name", &name, image], &CONNECT[..]].concat(),
                    )
                    .unwrap();
                }
            });
        }
    });
    recording.log_until(&group, |log| log.count("127.0.0.1", 9) >= TIMES as u64);
    recording.stop();
    let log = recording.log(&group);
    assert_eq!(log.count("127.0.0.1", 9), TIMES as u64);
    let named: BTreeSet<_> = log
        .flows()
        .filter(|flow| container(flow)["image"] == image.name())
        .filter(|flow| {
            container(flow)["image_digest"]
                .as_str()
                .is_some_and(|id| id.starts_with("sha256:"))
        })
        .map(|flow| container(flow)["name"].as_str().unwrap())
        .collect();
    assert_eq!(named.len(), TIMES, "{named:?}");
    assert_eq!(log.of_type("alias").count(), 0);
    assert_eq!(
        log.of_type("gap").collect::<Vec<_>>(),
        Vec::<&serde_json::Value>::new()
    );
    let runs = |kind| {
        log.of_type(kind)
            .map(|record| record["run"].to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!((runs("start").len(), runs("stop").len()), (TIMES, TIMES));
    assert_eq!(recording.workloads(), [group]);
}

#[test]
fn a_container_that_is_started_again_is_another_run_of_the_same_workload() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let name = unique("again");
    let mut recording = Recording::start(&["--container", &name]);
    let again = spec(&image)
        .name(&name)
        .command(&CONNECT)
        .create(&docker)
        .unwrap();
    for turn in 1..=3 {
        again.start().unwrap();
        assert_eq!(again.wait(MINUTE).unwrap(), 0);
        recording.log_until(&name, |log| log.count("127.0.0.1", 9) >= turn);
    }
    recording.stop();
    let log = recording.log(&name);
    let runs: BTreeSet<_> = log.flows().map(|flow| flow["run"].to_string()).collect();
    assert_eq!(runs.len(), 3, "{log:?}");
    let ended: Vec<_> = log
        .of_type("stop")
        .filter(|stop| stop["reason"] == "ended")
        .collect();
    assert_eq!(ended.len(), 3, "{ended:?}");
}

#[test]
fn a_rename_is_for_the_next_run() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let (first, second) = (unique("first"), unique("second"));
    let mut recording = Recording::start(&["--container", &first, "--container", &second]);
    let steps = [
        "repeat",
        "40",
        "tcp",
        "127.0.0.1:9",
        "::",
        "sleep",
        "600000",
    ];
    let renamed = spec(&image)
        .name(&first)
        .command(&steps)
        .run(&docker)
        .unwrap();
    recording.log_until(&first, |log| log.count("127.0.0.1", 9) == 40);
    run("docker", &["rename", &first, &second]).unwrap();
    run(
        "docker",
        &["exec", &second, "/sample-agent", "tcp", "127.0.0.1:10"],
    )
    .unwrap();
    recording.log_until(&first, |log| log.count("127.0.0.1", 10) == 1);
    run("docker", &["restart", "--time", "0", &second]).unwrap();
    recording.log_until(&second, |log| log.count("127.0.0.1", 9) == 40);
    recording.stop();
    assert_eq!(recording.workloads(), [first, second.clone()]);
    // The guard knows it by its first name.
    run("docker", &["rm", "--force", &second]).unwrap();
    drop(renamed);
}

#[test]
fn a_process_beside_the_first_one_and_in_the_hosts_namespaces_is_the_containers() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let stem = unique("shared");
    let mut recording = Recording::start(&["--container", &format!("{stem}-*")]);
    let sleeper = |suffix: &str, options: &[&str]| {
        let spec = ContainerSpec::new(&image).name(&format!("{stem}-{suffix}"));
        spec.option(options)
            .command(&["sleep", "600000"])
            .run(&docker)
            .unwrap()
    };
    let one = sleeper("one", &["--network", "none"]);
    let pid = format!("container:{}", one.name());
    let others = [
        sleeper("pid", &["--network", "none", "--pid", &pid]),
        sleeper("net", &["--network", &pid]),
        sleeper("host", &["--network", "host", "--pid", "host"]),
    ];
    for other in others.iter().chain([&one]) {
        other
            .exec(&["/sample-agent", "tcp", "127.0.0.1:9"])
            .unwrap();
    }
    for other in others.iter().chain([&one]) {
        let log = recording.log_until(other.name(), |log| log.count("127.0.0.1", 9) == 1);
        assert!(
            log.flows()
                .all(|flow| container(flow)["name"] == other.name())
        );
    }
    recording.stop();
}

#[test]
fn labels_choose_and_compose_services_are_one_workload() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let project = unique("shop");
    let of_project = format!("com.docker.compose.project={project}");
    let team = |team: &str| format!("team={team}");
    let mut recording = Recording::start(&["--label", &of_project, "--label", "team=s*"]);
    let replica = |number: usize, team: &str| {
        let labels = [
            "--label",
            &of_project,
            "--label",
            "com.docker.compose.service=agent",
        ];
        let spec = spec(&image).name(&format!("{project}-agent-{number}"));
        let spec = spec.option(&labels).option(&["--label", team]);
        spec.command(&CONNECT).run(&docker).unwrap()
    };
    let chosen = [replica(1, &team("search")), replica(2, &team("shop"))];
    let other = replica(3, &team("other"));
    for replica in chosen.iter().chain([&other]) {
        replica.wait(MINUTE).unwrap();
    }
    let workload = format!("{project}_agent");
    recording.log_until(&workload, |log| log.count("127.0.0.1", 9) >= 2);
    recording.stop();
    let log = recording.log(&workload);
    let names: BTreeSet<_> = log
        .flows()
        .map(|flow| container(flow)["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, chosen.iter().map(Container::name).collect());
    assert_eq!(recording.workloads(), [workload]);
}

/// Programs that are attached to a cgroup itself.
fn hooks_on(container: &Container) -> usize {
    let cgroup = container.cgroup().unwrap();
    let path = cgroup2_root().unwrap().join(cgroup.trim_start_matches('/'));
    let shown = run("bpftool", &["cgroup", "show", path.to_str().unwrap()]);
    shown.unwrap().lines().skip(1).count()
}

#[test]
fn a_container_that_is_not_chosen_has_no_hooks() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let sleep = || {
        let spec = spec(&image).command(&["sleep", "600000"]);
        spec.run(&docker).unwrap()
    };
    let early = sleep();
    let mut recording = Recording::start(&["--container", "no-such-*"]);
    let late = sleep();
    // It may be the very one until its name is known.
    for container in [&early, &late] {
        let let_go = || Ok((hooks_on(container) == 0).then_some(()));
        wait_until("it is let go", MINUTE, let_go).unwrap();
        container
            .exec(&["/sample-agent", "tcp", "127.0.0.1:9"])
            .unwrap();
    }
    recording.stop();
    for container in [&early, &late] {
        let directory = recording.path().join(container.name());
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn a_container_with_a_kernel_of_its_own_is_a_gap() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let name = unique("kata");
    let mut recording = Recording::start(&["--container", &name]);
    let spec = spec(&image)
        .name(&name)
        .option(&["--runtime", "kata-runtime"]);
    let guest = spec.command(&["sleep", "600000"]).run(&docker).unwrap();
    let log = recording.log_until(&name, |log| !gaps(log, "other-kernel").is_empty());
    let gap = gaps(&log, "other-kernel")[0];
    assert_eq!(gap["severity"], "destinations");
    assert!(
        gap["detail"].as_str().unwrap().contains("kata-runtime"),
        "{gap}"
    );
    let doctor = lab::egress_tracer().unwrap();
    let said = lab::output(std::process::Command::new(doctor).arg("doctor")).unwrap();
    assert!(
        said.contains(&format!("{name} runs under kata-runtime")),
        "{said}"
    );
    recording.stop();
    assert_eq!(gaps(&recording.log(&name), "other-kernel").len(), 1);
    drop(guest);
    let log = recording.path().join(&name);
    let generate = |options: &[&str]| {
        let mut command = std::process::Command::new(lab::egress_tracer().unwrap());
        command.arg("generate").arg(&log).args(options);
        command.output().unwrap()
    };
    assert_eq!(generate(&[]).status.code(), Some(3));
    assert_eq!(generate(&["--allow-incomplete"]).status.code(), Some(0));
}
