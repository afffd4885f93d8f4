//! Processes in containers: whose they are, what they ran, and who had started them there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use lab::{
    Container, ContainerSpec, Daemon, Docker, Image, ImageSpec, Log, binary, is_root_or_skip,
    unique,
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// Nobody listens there.
const PEER: &str = "127.0.0.77:9";

/// The load generator alone.
fn image(docker: &Docker) -> Image {
    let spec = ImageSpec::default()
        .program(&binary("load-generator").unwrap(), "/load-generator")
        .unwrap()
        .line("ENTRYPOINT [\"/load-generator\"]");
    docker.build(&spec).unwrap()
}

/// A daemon that records containers whose names begin with `stem`.
fn daemon(output: &Path, stem: &str) -> Daemon {
    Daemon::start(output, &["--container", &format!("{stem}*")]).unwrap()
}

/// Every flow record, by workload.
fn flows(output: &Path) -> BTreeMap<String, Vec<Value>> {
    let directories = fs::read_dir(output).unwrap().flatten();
    directories
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let log = Log::read(&entry.path().join("flows.jsonl")).unwrap();
            let flows = log.flows().cloned().collect();
            (entry.file_name().into_string().unwrap(), flows)
        })
        .collect()
}

#[test]
fn ten_thousand_short_lives_in_twenty_containers_are_all_told() {
    const CONTAINERS: usize = 20;
    const EACH: usize = 500;
    if !is_root_or_skip("ten_thousand_short_lives_in_twenty_containers_are_all_told") {
        return;
    }
    let docker = Docker::start().unwrap();
    let image = image(&docker);
    let (stem, output) = (unique("storm"), tempfile::tempdir().unwrap());
    let daemon = daemon(output.path(), &stem);
    let containers: Vec<Container> = (0..CONTAINERS)
        .map(|number| {
            let name = format!("{stem}-{number}");
            let spec = ContainerSpec::new(&image).name(&name);
            spec.command(&["storm", &EACH.to_string(), PEER, &name])
                .run(&docker)
                .unwrap()
        })
        .collect();
    for container in &containers {
        assert_eq!(container.wait(3 * MINUTE).unwrap(), 0);
    }
    daemon.stop().unwrap();
    // By id: where the engine takes more than 5 s, records have a provisional name.
    let mut told = BTreeMap::<String, Vec<Value>>::new();
    for flow in flows(output.path()).into_values().flatten() {
        let id = flow["container"]["id"].as_str().unwrap().to_owned();
        told.entry(id).or_default().push(flow);
    }
    assert_eq!(told.len(), CONTAINERS, "{:?}", told.keys());
    for container in &containers {
        assert_storm(container, &told[container.id()], EACH);
    }
}

/// Each of `count` processes once, complete, in the right container.
fn assert_storm(container: &Container, flows: &[Value], count: usize) {
    let mut numbers = Vec::new();
    let mut ns_pids = BTreeSet::new();
    for flow in flows {
        assert_eq!(flow["count"], 1, "{flow}");
        assert_eq!(flow["exe"], "/load-generator", "{flow}");
        assert_eq!(flow["cwd"], "/", "{flow}");
        assert_eq!(flow["container"]["id"], container.id(), "{flow}");
        let Some([program, verb, at, tag, number]) = flow["cmdline"].as_array().map(Vec::as_slice)
        else {
            panic!("{flow}");
        };
        assert_eq!((program, verb), (&json!("/load-generator"), &json!("once")));
        assert_eq!((at, tag), (&json!(PEER), &json!(container.name())));
        numbers.push(number.as_str().unwrap().parse::<usize>().unwrap());
        // The container's first process, and not the engine's beyond it.
        let ancestors = flow["ancestors"].as_array().unwrap();
        assert_eq!(ancestors.len(), 1, "{flow}");
        assert_eq!(ancestors[0]["pid"], flow["ppid"], "{flow}");
        assert_eq!(ancestors[0]["cmdline"][1], "storm", "{flow}");
        assert_eq!(flow.get("ancestors_cut"), None, "{flow}");
        ns_pids.insert(flow["ns_pid"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(ns_pids.len(), count, "{}", container.name());
    assert!(
        ns_pids
            .first()
            .is_some_and(|first| (2..count as u64).contains(first))
    );
    assert_eq!(
        numbers,
        (0..count).collect::<Vec<_>>(),
        "{}",
        container.name()
    );
}

#[test]
fn with_the_hosts_pids_the_container_is_still_the_end_of_the_ancestors() {
    if !is_root_or_skip("with_the_hosts_pids_the_container_is_still_the_end_of_the_ancestors") {
        return;
    }
    let docker = Docker::start().unwrap();
    let image = image(&docker);
    let (stem, output) = (unique("shared"), tempfile::tempdir().unwrap());
    let daemon = daemon(output.path(), &stem);
    let spec = ContainerSpec::new(&image).name(&stem);
    let spec = spec.option(&["--pid", "host"]);
    let container = spec
        .command(&["storm", "3", PEER, &stem])
        .run(&docker)
        .unwrap();
    assert_eq!(container.wait(MINUTE).unwrap(), 0);
    daemon.stop().unwrap();
    let told = flows(output.path());
    let flows = &told[&stem];
    assert_eq!(flows.len(), 3);
    for flow in flows {
        let ancestors = flow["ancestors"].as_array().unwrap();
        assert_eq!(ancestors.len(), 1, "{flow}");
        assert_eq!(ancestors[0]["cmdline"][1], "storm", "{flow}");
        assert_eq!(flow.get("ns_pid"), None, "{flow}");
    }
}

#[test]
fn a_hundred_containers_of_one_short_process_are_told_in_full() {
    const RUNS: usize = 100;
    if !is_root_or_skip("a_hundred_containers_of_one_short_process_are_told_in_full") {
        return;
    }
    let docker = Docker::start().unwrap();
    let image = image(&docker);
    let (stem, output) = (unique("short"), tempfile::tempdir().unwrap());
    let daemon = daemon(output.path(), &stem);
    let _left = Removed(&stem, RUNS);
    for number in 0..RUNS {
        let name = format!("{stem}-{number}");
        let words = [
            "run",
            "--rm",
            "--name",
            &name,
            image.name(),
            "once",
            PEER,
            &name,
        ];
        lab::run("docker", &words).unwrap();
    }
    daemon.stop().unwrap();
    let told = flows(output.path());
    let incomplete: Vec<_> = (0..RUNS)
        .map(|number| format!("{stem}-{number}"))
        .filter(|name| {
            !told
                .get(name)
                .is_some_and(|flows| is_complete(name, flows, &image))
        })
        .collect();
    assert_eq!(incomplete, Vec::<String>::new(), "{told:#?}");
}

fn is_complete(name: &str, flows: &[Value], image: &Image) -> bool {
    let [flow] = flows else { return false };
    let container = &flow["container"];
    flow["count"] == 1
        && flow["exe"] == "/load-generator"
        && flow["cmdline"] == json!(["/load-generator", "once", PEER, name])
        && flow["ns_pid"] == 1
        && flow["started"].is_string()
        // It is the first process itself.
        && flow.get("ancestors").is_none()
        && flow.get("ancestors_cut").is_none()
        && container["name"] == name
        && container["image"].as_str().is_some_and(|told| told.contains(image.name()))
}

/// Containers of these names, were any left by a failure.
struct Removed<'a>(&'a str, usize);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let names: Vec<String> = (0..self.1).map(|n| format!("{}-{n}", self.0)).collect();
        let mut words = vec!["rm", "--force"];
        words.extend(names.iter().map(String::as_str));
        let _none_left = lab::run("docker", &words);
    }
}
