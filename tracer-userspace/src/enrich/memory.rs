//! What one daemon tells the next of containers: what the next could not find out any more.

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    engine::{
        Answer,
        info::{ContainerInfo, PodInfo},
        sockets::Trust,
    },
    known::Naming,
    machine::Machine,
};
use crate::record::Container;

/// A container's cgroup, and the container as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub cgroup_id: u64,
    pub path: String,
    pub id: String,
    /// `None`: nobody has named it.
    pub container: Option<Container>,
}

impl Machine {
    /// The container cgroups that are or lately were, with the names of their containers.
    pub fn memory(&self) -> impl Iterator<Item = Remembered> {
        self.containers.values().map(|known| Remembered {
            cgroup_id: known.cgroup_id,
            path: known.path.clone(),
            id: known.container.id.clone(),
            container: match known.naming {
                Naming::Named { .. } => Some(Container::clone(&known.container)),
                Naming::Asked { .. } | Naming::Provisional { .. } => None,
            },
        })
    }

    /// The run of the container whose own cgroup this is.
    #[must_use]
    pub fn run_in(&self, cgroup_id: u64) -> Option<Arc<str>> {
        let mut containers = self.containers.values();
        let known = containers.find(|known| known.cgroup_id == cgroup_id)?;
        Some(known.run.clone())
    }

    /// Takes in what an earlier daemon knew. Cgroups that are gone meanwhile are treated so.
    pub fn recall(&mut self, remembered: Remembered, now: Instant) {
        let Remembered {
            cgroup_id,
            path,
            id,
            container,
        } = remembered;
        let is_gone = !self.knows_cgroup(cgroup_id);
        if is_gone {
            self.cgroup_created(cgroup_id, Some(path), now);
        }
        if let Some(container) = container {
            let info = Some(info(container));
            // It was believed once.
            let trust = Trust::Machine;
            self.named(Answer { id, info, trust });
        }
        if is_gone {
            self.cgroup_removed(cgroup_id, None, now);
        }
    }
}

/// What the engine had said. Of a kernel of its own the log has been told.
fn info(container: Container) -> ContainerInfo {
    let pod = container.pod.map(|name| PodInfo {
        name,
        namespace: container.namespace.unwrap_or_default(),
        uid: container.pod_uid.unwrap_or_default(),
        owner: container.owner.unwrap_or_default(),
    });
    ContainerInfo {
        engine: container.runtime,
        name: container.name.unwrap_or_default(),
        image: container.image,
        image_digest: container.image_digest,
        labels: container.labels,
        labels_cut: container.labels_cut,
        oci_runtime: None,
        pod,
    }
}
