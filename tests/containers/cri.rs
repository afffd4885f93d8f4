//! Pods, by the CRI of a real containerd.

use lab::{Containerd, Docker, KATA_HANDLER, PodSpec, agent_image, unique};

use crate::world::{Recording, container, gaps, needs_root};

fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> PodSpec {
    let own = |text: &str| text.to_owned();
    PodSpec {
        name: own(name),
        namespace: own(namespace),
        labels: labels
            .iter()
            .map(|(key, value)| (own(key), own(value)))
            .collect(),
        handler: String::new(),
    }
}

#[test]
fn containers_of_a_deployments_pods_are_one_workload() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let containerd = Containerd::start(&docker, &image).unwrap();
    let namespace = unique("shop");
    let socket = containerd.socket();
    let arguments = [
        "--cri-socket",
        socket.to_str().unwrap(),
        "--namespace",
        &namespace,
    ];
    let mut recording = Recording::start(&arguments);
    let hash = [("pod-template-hash", "6d4cf56db6")];
    let pods = ["agent-6d4cf56db6-x7k2p", "agent-6d4cf56db6-9q8rz"]
        .map(|name| containerd.pod(&pod(&namespace, name, &hash)).unwrap());
    let mut ids = Vec::new();
    for pod in &pods {
        for (name, port) in [("agent", "127.0.0.1:9"), ("sidecar", "127.0.0.1:10")] {
            let id = pod.create(name, &["tcp", port]).unwrap();
            pod.start(&id).unwrap();
            ids.push(id);
        }
    }
    let workload = format!("{namespace}_deployment_agent");
    let log = recording.log_until(&workload, |log| log.flows().count() >= 4);
    recording.stop();
    for (id, flow) in ids.iter().map(|id| {
        let mut flows = log.flows();
        (
            id,
            flows
                .find(|flow| container(flow)["id"] == id.as_str())
                .unwrap(),
        )
    }) {
        let found = container(flow);
        assert_eq!(found["runtime"], "containerd");
        assert_eq!(found["image"], containerd.image());
        assert!(
            found["image_digest"].as_str().unwrap().contains("sha256:"),
            "{found}"
        );
        assert_eq!(found["namespace"], namespace.as_str());
        assert_eq!(found["owner"]["kind"], "Deployment");
        assert_eq!(found["owner"]["name"], "agent");
        let expected = if flow["dest_port"] == 9 {
            "agent"
        } else {
            "sidecar"
        };
        assert_eq!(found["name"], expected, "{id}");
        let own = pods.iter().find(|pod| found["pod_uid"] == pod.uid());
        assert!(own.is_some(), "{found}");
    }
    assert_eq!(log.of_type("alias").count(), 0);
}

#[test]
fn a_runtime_that_comes_late_names_its_pods_by_an_alias() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let containerd = Containerd::start(&docker, &image).unwrap();
    let namespace = unique("late");
    let pod = pod(
        &namespace,
        "db-0",
        &[("statefulset.kubernetes.io/pod-name", "db-0")],
    );
    let running = containerd.pod(&pod).unwrap();
    let steps = "repeat 100000 tcp 127.0.0.1:9 sleep 200 ::";
    let steps: Vec<_> = steps.split(' ').collect();
    let id = running.create("db", &steps).unwrap();
    running.start(&id).unwrap();
    containerd.stop().unwrap();
    let socket = containerd.socket();
    let arguments = [
        "--cri-socket",
        socket.to_str().unwrap(),
        "--namespace",
        &namespace,
    ];
    let mut recording = Recording::start(&arguments);
    let provisional = format!("kubernetes-{}", &id[..12]);
    recording.log_until(&provisional, |log| log.flows().count() > 0);
    containerd.begin().unwrap();
    let workload = format!("{namespace}_statefulset_db");
    let log = recording.log_until(&workload, |log| log.flows().count() > 0);
    let alias = log.of_type("alias").next().unwrap();
    assert_eq!(alias["provisional"], provisional.as_str());
    assert_eq!(container(log.flows().next().unwrap())["name"], "db");
    recording.stop();
}

#[test]
fn a_handler_with_a_kernel_of_its_own_is_a_gap() {
    needs_root!();
    let docker = Docker::start().unwrap();
    let image = agent_image(&docker).unwrap();
    let containerd = Containerd::start(&docker, &image).unwrap();
    let namespace = unique("kata");
    let spec = PodSpec {
        handler: KATA_HANDLER.to_owned(),
        ..pod(&namespace, "guest", &[])
    };
    let socket = containerd.socket();
    let arguments = [
        "--cri-socket",
        socket.to_str().unwrap(),
        "--namespace",
        &namespace,
    ];
    let mut recording = Recording::start(&arguments);
    let _guest = containerd.pod(&spec).unwrap();
    let workload = format!("{namespace}_pod_guest");
    recording.log_until(&workload, |log| !gaps(log, "other-kernel").is_empty());
    recording.stop();
}
