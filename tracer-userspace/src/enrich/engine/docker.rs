//! Docker's API, as Docker and Podman speak it: questions about one container.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerInspectResponse, HostConfig, ImageInspect, SystemVersion},
    query_parameters::ListContainersOptionsBuilder,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{super::naming::repository, info::ContainerInfo, isolation::isolation, podman};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Podman is called here and in the log.
const PODMAN: &str = "podman";

/// What Podman calls every runtime in Docker's API.
const ANY_RUNTIME: &str = "oci";

/// By which crun is told to start a virtual machine (crun(1), "run.oci.handler").
const HANDLER: &str = "run.oci.handler";

/// One engine.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) engine: Docker,
    socket: Arc<Path>,
    about: Arc<OnceCell<About>>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `docker`, `podman`, `containerd`, `crio`.
    pub name: String,
    pub version: String,
    /// What each configured runtime is behind its name: a path, or a containerd shim.
    pub runtimes: BTreeMap<String, String>,
}

impl About {
    /// A runtime may be called anything: the word for it that tells whether it has another kernel.
    #[must_use]
    pub fn telling<'a>(&'a self, runtime: &'a str) -> &'a str {
        match self.runtimes.get(runtime) {
            Some(behind) if isolation(runtime).is_none() && isolation(behind).is_some() => behind,
            Some(_) | None => runtime,
        }
    }

    /// The configured runtimes that have a kernel of their own.
    pub fn isolated(&self) -> impl Iterator<Item = &str> {
        let names = self.runtimes.keys().map(String::as_str);
        names.filter(|name| isolation(self.telling(name)).is_some())
    }
}

impl Client {
    /// Speaks to nobody yet.
    ///
    /// # Errors
    /// The socket is gone, or its path is no UTF-8.
    pub fn new(socket: &Path) -> Result<Self, Error> {
        let path = socket.to_str().ok_or(Error::APIVersionParseError {})?;
        let engine = Docker::connect_with_unix(path, PATIENCE.as_secs(), API_DEFAULT_VERSION)?;
        let about = Arc::default();
        Ok(Self {
            engine,
            socket: socket.into(),
            about,
        })
    }

    /// Who answers: asked once. Podman may take seconds, since it looks up its packages.
    ///
    /// # Errors
    /// Nobody answers, or not in Docker's API.
    pub async fn about(&self) -> Result<&About, Error> {
        self.about.get_or_try_init(|| self.greet()).await
    }

    async fn greet(&self) -> Result<About, Error> {
        let (version, info) = tokio::try_join!(self.engine.version(), self.engine.info())?;
        let runtimes = info.runtimes.unwrap_or_default().into_iter();
        Ok(About {
            name: kind(&version).to_owned(),
            version: version.version.unwrap_or_default(),
            runtimes: runtimes
                .map(|(name, runtime)| (name, runtime.path.unwrap_or_default()))
                .collect(),
        })
    }

    /// What the engine says of a container.
    ///
    /// # Errors
    /// It does not know the container, or does not answer.
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>, Error> {
        let mut found = self.engine.inspect_container(id, None).await?;
        let runtime = found
            .host_config
            .as_ref()
            .and_then(|config| config.runtime.as_deref());
        let is_podman = runtime == Some(ANY_RUNTIME);
        if is_podman {
            self.podman_runtime(id, &mut found).await;
        }
        // Without the image's own answer its id is the digest.
        let image = self.image(found.image.as_deref()).await;
        let engine = if is_podman { PODMAN } else { self.kind() };
        Ok(info(found, image, engine, self.about.get()))
    }

    /// Who answers, as far as is known by now: names do not wait for it.
    fn kind(&self) -> &str {
        let is_podman = || self.socket.to_string_lossy().contains(PODMAN);
        match self.about.get() {
            Some(about) => &about.name,
            None if is_podman() => PODMAN,
            None => "docker",
        }
    }

    async fn image(&self, image: Option<&str>) -> Option<ImageInspect> {
        self.engine.inspect_image(image?).await.ok()
    }

    /// What an event said of a container that is gone by now, and what can still be asked.
    pub(super) async fn complete(&self, said: ContainerInfo) -> ContainerInfo {
        let image = self.image(said.image.as_deref()).await;
        let id = image.as_ref().and_then(|image| image.id.clone());
        ContainerInfo {
            engine: self.kind().to_owned(),
            image_digest: digest(said.image.as_deref(), id, image),
            ..said
        }
    }

    /// Only Podman's own API tells.
    async fn podman_runtime(&self, id: &str, found: &mut ContainerInspectResponse) {
        let runtime = podman::oci_runtime(&self.socket, id);
        let runtime = timeout(PATIENCE, runtime).await.ok().flatten();
        if let (Some(runtime), Some(config)) = (runtime, &mut found.host_config) {
            config.runtime = Some(runtime);
        }
    }

    /// Ids of the containers that are not over.
    ///
    /// # Errors
    /// No answer.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        // Those that Docker and Podman both know.
        let statuses = ["created", "running", "paused"].map(str::to_owned);
        let filters = HashMap::from([("status".to_owned(), statuses.to_vec())]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters);
        let found = self.engine.list_containers(Some(options.build())).await?;
        Ok(found
            .into_iter()
            .filter_map(|container| container.id)
            .collect())
    }
}

fn kind(version: &SystemVersion) -> &'static str {
    let components = version.components.iter().flatten();
    let is_podman = components
        .into_iter()
        .any(|part| part.name.starts_with("Podman"));
    if is_podman { PODMAN } else { "docker" }
}

fn info(
    found: ContainerInspectResponse,
    image: Option<ImageInspect>,
    engine: &str,
    about: Option<&About>,
) -> Option<ContainerInfo> {
    let config = found.config.unwrap_or_default();
    let name_given = config.image.or_else(|| found.image.clone());
    Some(ContainerInfo {
        engine: engine.to_owned(),
        // The API writes names with a leading slash.
        name: found.name?.trim_start_matches('/').to_owned(),
        image_digest: digest(name_given.as_deref(), found.image, image),
        image: name_given,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        labels_cut: false,
        oci_runtime: found.host_config.and_then(runtime).map(|runtime| {
            about.map_or(runtime.clone(), |about| about.telling(&runtime).to_owned())
        }),
        pod: None,
    })
}

fn runtime(config: HostConfig) -> Option<String> {
    let handler = config.annotations.and_then(|mut all| all.remove(HANDLER));
    handler
        .filter(|handler| isolation(handler).is_some())
        .or(config.runtime)
}

/// The registry's digest under the name that was given, else any registry's, else the image's id.
fn digest(name: Option<&str>, id: Option<String>, image: Option<ImageInspect>) -> Option<String> {
    let mut digests = image
        .and_then(|image| image.repo_digests)
        .unwrap_or_default();
    let repository = name.map(repository).unwrap_or_default();
    let same = digests.iter().position(|digest| {
        let digest = digest.split('@').next().unwrap_or_default();
        digest == repository || digest.ends_with(&format!("/{repository}"))
    });
    match (same, digests.is_empty()) {
        (Some(at), _) => Some(digests.swap_remove(at)),
        (None, false) => Some(digests.swap_remove(0)),
        (None, true) => id.map(|id| {
            if id.contains(':') {
                id
            } else {
                format!("sha256:{id}")
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digests: &[&str]) -> Option<ImageInspect> {
        Some(ImageInspect {
            repo_digests: Some(digests.iter().map(|digest| (*digest).to_owned()).collect()),
            ..ImageInspect::default()
        })
    }

    #[test]
    fn the_digest_is_the_registrys_where_there_is_one() {
        let id = || Some("sha256:1".to_owned());
        let found = |name, digests: &[&str]| digest(Some(name), id(), image(digests));
        assert_eq!(found("agent", &[]).as_deref(), Some("sha256:1"));
        let both = ["other@sha256:2", "docker.io/library/agent@sha256:3"];
        assert_eq!(found("agent:1.2", &both).as_deref(), Some(both[1]));
        assert_eq!(found("renamed", &both).as_deref(), Some(both[0]));
        assert_eq!(
            digest(None, Some("1".into()), None).as_deref(),
            Some("sha256:1")
        );
        assert_eq!(digest(None, None, None), None);
    }
}
