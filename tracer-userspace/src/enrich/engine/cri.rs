//! Kubernetes' Container Runtime Interface, as containerd and CRI-O speak it.
//!
//! A container is in the runtime's store before its cgroup is made, and stays there after it has
//! ended until the kubelet removes it: asking when the cgroup is made is early enough, and no
//! stream of events is needed (`GetContainerEvents` is missing in containerd before 1.7 anyway).

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tokio::sync::OnceCell;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint, Error, Uri},
};
use tonic_prost::ProstCodec;

use super::{
    cri_api::{
        ContainerFilter, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse, EXITED,
        ListContainersRequest, ListContainersResponse, PodSandboxStatus, PodSandboxStatusRequest,
        PodSandboxStatusResponse, StatusRequest, StatusResponse, VersionRequest, VersionResponse,
    },
    docker::About,
    info::{ContainerInfo, PodInfo},
    pod_owner::pod_owner,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of one answer.
const ANSWER_BYTES: usize = 16 << 20;

/// What Kubernetes calls the container that holds a pod's namespaces.
const SANDBOX: &str = "POD";

/// One runtime.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    about: Arc<OnceCell<About>>,
}

impl Client {
    /// Connects when it is asked the first time, and again whenever the connection is lost.
    ///
    /// # Errors
    /// The path cannot be an address.
    pub fn new(socket: &Path) -> Result<Self, Error> {
        let address = format!("unix://{}", socket.display());
        let endpoint = Endpoint::try_from(address)?
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        Ok(Self {
            channel: endpoint.connect_lazy(),
            about: Arc::default(),
        })
    }

    /// What the runtime says of a container, or of a pod's sandbox; `None` if it knows neither.
    ///
    /// # Errors
    /// No answer.
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>, Status> {
        let Some(sandbox_id) = self.sandbox_of(id).await? else {
            let sandbox = self.sandbox(id).await?;
            return self.described(None, sandbox).await;
        };
        let (status, sandbox) = tokio::try_join!(self.status(id), self.sandbox(&sandbox_id))?;
        match status {
            Some(status) => self.described(Some(status), sandbox).await,
            None => Ok(None),
        }
    }

    async fn described(
        &self,
        status: Option<ContainerStatus>,
        sandbox: Option<PodSandboxStatus>,
    ) -> Result<Option<ContainerInfo>, Status> {
        if status.is_none() && sandbox.is_none() {
            return Ok(None);
        }
        Ok(Some(info(self.about().await?, status, sandbox)))
    }

    /// Ids of the containers that are not over.
    ///
    /// # Errors
    /// No answer.
    pub async fn list(&self) -> Result<Vec<String>, Status> {
        let all = self.containers(None).await?;
        let open = all
            .into_iter()
            .filter(|container| container.state != EXITED);
        Ok(open.map(|container| container.id).collect())
    }

    /// Who answers: asked once.
    ///
    /// # Errors
    /// No answer, or no CRI: `Unimplemented` where containerd runs without it.
    pub async fn about(&self) -> Result<&About, Status> {
        self.about.get_or_try_init(|| self.greet()).await
    }

    async fn greet(&self) -> Result<About, Status> {
        let request = VersionRequest {
            version: "v1".to_owned(),
        };
        let version: VersionResponse = self.call("Version", request).await?;
        let request = StatusRequest { verbose: true };
        let status: StatusResponse = self.call("Status", request).await?;
        let config = status.info.get("config").map(String::as_str);
        Ok(About {
            name: match version.runtime_name.as_str() {
                "cri-o" => "crio".to_owned(),
                _ => version.runtime_name,
            },
            version: version.runtime_version,
            runtimes: handlers(config.unwrap_or_default()),
        })
    }

    async fn sandbox_of(&self, id: &str) -> Result<Option<String>, Status> {
        let found = self.containers(Some(id)).await?;
        // The filter takes the beginning of an id too.
        let it = found.into_iter().find(|container| container.id == id);
        Ok(it.map(|container| container.pod_sandbox_id))
    }

    async fn containers(&self, id: Option<&str>) -> Result<Vec<super::cri_api::Container>, Status> {
        let filter = id.map(|id| ContainerFilter { id: id.to_owned() });
        let request = ListContainersRequest { filter };
        let answer: ListContainersResponse = self.call("ListContainers", request).await?;
        Ok(answer.containers)
    }

    async fn status(&self, id: &str) -> Result<Option<ContainerStatus>, Status> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.call("ContainerStatus", request).await;
        known(answer.map(|answer: ContainerStatusResponse| answer.status))
    }

    async fn sandbox(&self, id: &str) -> Result<Option<PodSandboxStatus>, Status> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.call("PodSandboxStatus", request).await;
        known(answer.map(|answer: PodSandboxStatusResponse| answer.status))
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path: Option<Uri> = format!("/runtime.v1.RuntimeService/{method}").parse().ok();
        let path = path.and_then(|path| path.path_and_query().cloned());
        let path = path.ok_or_else(|| Status::internal("no such method"))?;
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES);
        let asked = async {
            let ready = client.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let answer = client.unary(Request::new(request), path, ProstCodec::default());
            answer.await
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))?;
        Ok(answer?.into_inner())
    }
}

/// What is not there is an answer too.
fn known<T>(answer: Result<Option<T>, Status>) -> Result<Option<T>, Status> {
    match answer {
        Err(status) if status.code() == Code::NotFound => Ok(None),
        other => other,
    }
}

fn info(
    about: &About,
    status: Option<ContainerStatus>,
    sandbox: Option<PodSandboxStatus>,
) -> ContainerInfo {
    let sandbox = sandbox.unwrap_or_default();
    let pod = sandbox.metadata.unwrap_or_default();
    let is_sandbox = status.is_none();
    let status = status.unwrap_or_default();
    let image = status.image.unwrap_or_default();
    let first = |texts: [String; 2]| texts.into_iter().find(|text| !text.is_empty());
    let owner = pod_owner(&pod.name, &sandbox.labels, &sandbox.annotations);
    let mut labels = sandbox.labels;
    labels.extend(status.labels);
    ContainerInfo {
        engine: about.name.clone(),
        name: match status.metadata {
            Some(metadata) => metadata.name,
            None if is_sandbox => SANDBOX.to_owned(),
            None => String::new(),
        },
        image: first([image.user_specified_image, image.image]),
        image_digest: Some(status.image_ref).filter(|digest| !digest.is_empty()),
        labels,
        labels_cut: false,
        oci_runtime: Some(about.telling(&sandbox.runtime_handler).to_owned())
            .filter(|handler| !handler.is_empty()),
        pod: Some(PodInfo {
            name: pod.name,
            namespace: pod.namespace,
            uid: pod.uid,
            owner,
        }),
    }
}

/// From containerd's configuration in JSON: what each handler runs.
fn handlers(config: &str) -> BTreeMap<String, String> {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let runtimes = config
        .pointer("/containerd/runtimes")
        .and_then(serde_json::Value::as_object);
    runtimes
        .into_iter()
        .flatten()
        .map(|(name, runtime)| {
            let kind = runtime["runtimeType"].as_str().unwrap_or_default();
            (name.clone(), kind.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_may_be_called_anything() {
        let config = r#"{"containerd":{"runtimes":{
            "runc":{"runtimeType":"io.containerd.runc.v2"},
            "secure":{"runtimeType":"io.containerd.kata.v2"},
            "runsc":{"runtimeType":""}}}}"#;
        let about = About {
            runtimes: handlers(config),
            ..About::default()
        };
        assert_eq!(about.isolated().collect::<Vec<_>>(), ["runsc", "secure"]);
        assert_eq!(about.telling("secure"), "io.containerd.kata.v2");
        assert_eq!(about.telling("runc"), "runc");
        assert_eq!(handlers("no json"), BTreeMap::new());
    }

    #[test]
    fn a_sandbox_alone_is_its_pod() {
        let found = info(&About::default(), None, Some(PodSandboxStatus::default()));
        assert_eq!(found.name, SANDBOX);
    }
}
