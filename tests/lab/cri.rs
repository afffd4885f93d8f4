//! The messages with which a kubelet makes pods, and of them the fields that the lab sets.
//! From `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

use std::collections::BTreeMap;

use prost::Message;

use crate::containerd::PodSpec;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

/// Several requests and answers are an id alone.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Id {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) config: Option<PodSandboxConfig>,
    #[prost(string, tag = "2")]
    pub(crate) runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<SecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOption {
    /// Of `enum NamespaceMode`; 2 is the node's.
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pub(crate) pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pub(crate) sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Name>,
    #[prost(message, optional, tag = "2")]
    image: Option<Name>,
    #[prost(string, repeated, tag = "4")]
    args: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

const NODE: i32 = 2;

impl PodSandboxConfig {
    pub(crate) fn of(spec: &PodSpec, uid: &str) -> Self {
        let mut labels: BTreeMap<_, _> = spec.labels.iter().cloned().collect();
        // As the kubelet does.
        for (key, value) in [
            ("io.kubernetes.pod.name", &spec.name),
            ("io.kubernetes.pod.namespace", &spec.namespace),
        ] {
            labels.insert(key.to_owned(), value.clone());
        }
        let security_context = SecurityContext {
            namespace_options: Some(NamespaceOption { network: NODE }),
        };
        Self {
            metadata: Some(PodSandboxMetadata {
                name: spec.name.clone(),
                uid: uid.to_owned(),
                namespace: spec.namespace.clone(),
            }),
            labels,
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/besteffort/pod{uid}"),
                security_context: Some(security_context),
            }),
        }
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.uid)
    }

    pub(crate) fn cgroup(&self) -> &str {
        let linux = self.linux.as_ref();
        linux.map_or("/", |linux| &linux.cgroup_parent)
    }
}

impl ContainerConfig {
    pub(crate) fn of(name: &str, image: &str, arguments: &[&str]) -> Self {
        let named = |name: &str| {
            Some(Name {
                name: name.to_owned(),
            })
        };
        Self {
            metadata: named(name),
            image: named(image),
            args: arguments.iter().copied().map(str::to_owned).collect(),
        }
    }
}
