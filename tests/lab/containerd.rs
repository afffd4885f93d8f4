//! A containerd of the lab's own, with Kubernetes' interface, and pods in it: what a kubelet does,
//! without one. Pods share the host's network, so that no network plug-in is needed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use crate::{
    cri,
    docker::{Docker, Image, ImageSpec},
    names::unique,
    process::{Process, binary, output, run},
    wait::wait_until,
};

/// A handler under a name that stands for another kernel. What it runs is runc.
pub const KATA_HANDLER: &str = "kata";

/// A running containerd. Its images have been imported; the last pod must be gone before it.
#[derive(Debug)]
pub struct Containerd {
    // Ends before its folder goes.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    image: String,
}

/// What a pod is to be called.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub name: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    /// Empty for the default one.
    pub handler: String,
}

/// A pod, stopped and removed on drop.
#[derive(Debug)]
pub struct Pod<'a> {
    containerd: &'a Containerd,
    config: cri::PodSandboxConfig,
    id: String,
}

impl Containerd {
    /// Starts one that has the sample agent's image, and one that sleeps for the sandboxes.
    ///
    /// # Errors
    /// When containerd or Docker, which builds the images, is missing.
    pub fn start(docker: &Docker, agent: &Image) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pause = ImageSpec::default()
            .program(&binary("sample-agent")?, "/sample-agent")?
            .line("ENTRYPOINT [\"/sample-agent\", \"sleep\", \"600000000\"]");
        let pause = docker.build(&pause)?;
        let containerd = Self {
            process: Mutex::new(None),
            folder,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            image: format!("docker.io/library/{}:latest", agent.name()),
        };
        let config = containerd.config(pause.name());
        fs::write(containerd.path("config.toml"), config)?;
        containerd.begin()?;
        let archive = containerd.path("images.tar");
        let mut save = Command::new("docker");
        save.args(["save", "-o"])
            .arg(&archive)
            .args([agent.name(), pause.name()]);
        output(&mut save)?;
        let mut import = Command::new("ctr");
        import.arg("-a").arg(containerd.socket());
        import.args(["-n", "k8s.io", "images", "import"]);
        // The default snapshotter needs a file system that overlays work on.
        import.args(["--snapshotter", "native"]).arg(&archive);
        output(&mut import)?;
        Ok(containerd)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    /// The image of its containers, as they were asked for.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    fn config(&self, pause: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let handler = |name: &str| {
            format!(
                "[{cri}.containerd.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n"
            )
        };
        // The machine may not allow lower OOM scores.
        format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n\
             [{cri}]\nsandbox_image = \"docker.io/library/{pause}:latest\"\n\
             restrict_oom_score_adj = true\ndisable_apparmor = true\n\
             [{cri}.containerd]\nsnapshotter = \"native\"\n{}{}",
            at("root"),
            at("state"),
            at("containerd.sock"),
            handler("runc"),
            handler(KATA_HANDLER),
        )
    }

    /// Starts the daemon, again if need be; its containers go on without it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn begin(&self) -> Result<()> {
        let log = File::create(self.path("log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.path("config.toml"));
        command.stdout(log.try_clone()?).stderr(log);
        *self.process() = Some(Process::spawn(&mut command)?);
        let answers = wait_until("containerd answers", Duration::from_secs(30), || {
            let version = self.call::<_, cri::Nothing>("Version", cri::Nothing {});
            Ok(version.ok())
        });
        answers.with_context(|| fs::read_to_string(self.path("log")).unwrap_or_default())?;
        Ok(())
    }

    /// Ends the daemon, not its containers.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        match self.process().take() {
            Some(mut process) => process.stop(Duration::from_secs(30)).map(drop),
            None => Ok(()),
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a pod's sandbox.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn pod(&self, spec: &PodSpec) -> Result<Pod<'_>> {
        let config = cri::PodSandboxConfig::of(spec, &unique_uid());
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: spec.handler.clone(),
        };
        let answer: cri::Id = self.call("RunPodSandbox", request)?;
        Ok(Pod {
            containerd: self,
            config,
            id: answer.id,
        })
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path: Uri = format!("/runtime.v1.RuntimeService/{method}").parse()?;
        let Some(path) = path.path_and_query().cloned() else {
            bail!("no such method: {method}");
        };
        let address = format!("unix://{}", self.socket().display());
        self.runtime.block_on(async {
            let channel: Channel = Endpoint::try_from(address)?.connect().await?;
            let mut client = Grpc::new(channel);
            client.ready().await?;
            let answer = client.unary(Request::new(request), path, ProstCodec::default());
            Ok(answer.await?.into_inner())
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("lab: clean-up: containerd: {error:#}");
        }
    }
}

impl Pod<'_> {
    /// The pod's UID.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.config.uid()
    }

    /// Makes a container of the sample agent in it, without starting it; returns its id.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn create(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(cri::ContainerConfig::of(
                name,
                &self.containerd.image,
                arguments,
            )),
            sandbox_config: Some(self.config.clone()),
        };
        let answer: cri::Id = self.containerd.call("CreateContainer", request)?;
        Ok(answer.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn start(&self, container: &str) -> Result<()> {
        let id = container.to_owned();
        let _started: cri::Nothing = self.containerd.call("StartContainer", cri::Id { id })?;
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let id = || cri::Id {
            id: self.id.clone(),
        };
        let _stopped: cri::Nothing = self.containerd.call("StopPodSandbox", id())?;
        let _removed: cri::Nothing = self.containerd.call("RemovePodSandbox", id())?;
        Ok(())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("lab: clean-up: pod {}: {error:#}", self.id);
        }
        let cgroup =
            crate::cgroup::cgroup2_root().map(|root| root.join(&self.config.cgroup()[1..]));
        if let Ok(cgroup) = cgroup {
            remove_empty(&cgroup);
        }
    }
}

/// The kubelet removes a pod's cgroup; runc left it, and those above it.
fn remove_empty(cgroup: &Path) {
    for empty in cgroup.ancestors().take(3) {
        let _other_pods = fs::remove_dir(empty);
    }
}

/// As Kubernetes writes UIDs.
fn unique_uid() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid");
    random.map_or_else(|_| unique("uid"), |uid| uid.trim().to_owned())
}

/// Whether containerd and its client are installed.
#[must_use]
pub fn has_containerd() -> bool {
    run("ctr", &["--version"]).is_ok() && run("containerd", &["--version"]).is_ok()
}
