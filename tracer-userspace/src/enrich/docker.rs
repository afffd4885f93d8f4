//! From a container id to its name, by asking the Docker engine.
//!
//! The engine is asked once a container, in the background: a slow or absent engine delays
//! nothing but the name.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

/// How long the engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that may wait; more are answered with "unknown" at once.
const QUEUE: usize = 1024;

/// Where Docker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What the engine says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub name: String,
    pub image: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl ContainerInfo {
    /// The workload that a container belongs to by default: the compose project and service,
    /// so that replicas are one workload, or else its own name.
    #[must_use]
    pub fn default_workload(&self) -> String {
        let label = |name: &str| self.labels.get(name);
        match (
            label("com.docker.compose.project"),
            label("com.docker.compose.service"),
        ) {
            (Some(project), Some(service)) => format!("{project}_{service}"),
            (Some(_) | None, Some(_) | None) => self.name.clone(),
        }
    }
}

/// An answer. `info` is `None` when the engine does not know the container or does not answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: String,
    pub info: Option<ContainerInfo>,
}

/// The asking end.
#[derive(Clone, Debug)]
pub struct Questions {
    sender: mpsc::Sender<String>,
}

impl Questions {
    /// Asks for a container's name; false if too many questions wait already.
    #[must_use]
    pub fn ask(&self, id: &str) -> bool {
        self.sender.try_send(id.to_owned()).is_ok()
    }
}

/// Starts the task that asks the engine at `socket`.
#[must_use]
pub fn spawn(socket: PathBuf) -> (Questions, mpsc::Receiver<Answer>) {
    let (sender, mut questions) = mpsc::channel::<String>(QUEUE);
    let (answers, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(id) = questions.recv().await {
            let (socket, answers) = (socket.clone(), answers.clone());
            // The receiver is gone only at shutdown: the answer is then of no use.
            tokio::spawn(async move {
                let info = inspect(&socket, &id).await;
                let _unsent = answers.send(Answer { id, info }).await;
            });
        }
    });
    (Questions { sender }, receiver)
}

async fn inspect(socket: &std::path::Path, id: &str) -> Option<ContainerInfo> {
    let path = socket.to_str().filter(|_| socket.exists())?;
    let engine = Docker::connect_with_unix(path, PATIENCE.as_secs(), API_DEFAULT_VERSION)
        .inspect_err(|error| tracing::debug!(%error, "cannot talk to the container engine"))
        .ok()?;
    let found = timeout(PATIENCE, engine.inspect_container(id, None))
        .await
        .ok()?
        .inspect_err(|error| tracing::debug!(%error, id, "the engine does not know a container"))
        .ok()?;
    let config = found.config.unwrap_or_default();
    Some(ContainerInfo {
        // The API writes names with a leading slash.
        name: found.name?.trim_start_matches('/').to_owned(),
        image: config.image.or(found.image),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_services_are_one_workload() {
        let mut info = ContainerInfo {
            name: "shop-agent-1".into(),
            ..Default::default()
        };
        assert_eq!(info.default_workload(), "shop-agent-1");
        info.labels
            .insert("com.docker.compose.project".into(), "shop".into());
        assert_eq!(info.default_workload(), "shop-agent-1");
        info.labels
            .insert("com.docker.compose.service".into(), "agent".into());
        assert_eq!(info.default_workload(), "shop_agent");
    }

    #[tokio::test]
    async fn an_absent_engine_answers_at_once() {
        let (questions, mut answers) = spawn("/nonexistent/docker.sock".into());
        assert!(questions.ask("abc"));
        let expected = Answer {
            id: "abc".into(),
            info: None,
        };
        assert_eq!(answers.recv().await, Some(expected));
    }
}
