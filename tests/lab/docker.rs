//! Docker: the daemon, images built from nothing, networks and containers.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    names::{self, unique},
    process::{Process, output, run, run_quietly},
    wait::wait_until,
};

/// The daemon this process started, for as long as a [`Docker`] lives.
static STARTED: Mutex<Weak<Dockerd>> = Mutex::new(Weak::new());

/// Kernel switches that dockerd turns on and leaves on.
const SWITCHES: [&str; 3] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
    "/proc/sys/net/ipv6/conf/default/forwarding",
];

/// Access to a Docker daemon. One that the lab had to start is stopped with the last of these.
#[derive(Clone, Debug)]
pub struct Docker {
    _daemon: Option<Arc<Dockerd>>,
}

impl Docker {
    /// Whether a daemon answers.
    #[must_use]
    pub fn answers() -> bool {
        run("docker", &["version", "--format", "{{.Server.Version}}"]).is_ok()
    }

    /// Uses the daemon that runs, or starts one.
    ///
    /// # Errors
    /// When none runs and none can be started.
    pub fn start() -> Result<Self> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(daemon) = started.upgrade() {
            return Ok(Self {
                _daemon: Some(daemon),
            });
        }
        if Self::answers() {
            return Ok(Self { _daemon: None });
        }
        let daemon = Arc::new(Dockerd::start()?);
        *started = Arc::downgrade(&daemon);
        Ok(Self {
            _daemon: Some(daemon),
        })
    }

    /// Builds an image `FROM scratch`.
    ///
    /// # Errors
    /// When a file is missing or the build fails.
    pub fn build(&self, spec: &ImageSpec) -> Result<Image> {
        let context = tempfile::tempdir()?;
        let root = context.path().join("root");
        fs::create_dir(&root)?;
        spec.fill(&root)?;
        let dockerfile = format!("FROM scratch\nCOPY root/ /\n{}\n", spec.lines.join("\n"));
        fs::write(context.path().join("Dockerfile"), dockerfile)?;

        let image = Image {
            name: unique("image"),
        };
        let mut build = Command::new("docker");
        // BuildKit is a plug-in that not every machine has; the old builder needs no network.
        build.env("DOCKER_BUILDKIT", "0");
        // No cache: a layer taken from the image of another test goes when that test removes it.
        build.args(["build", "--quiet", "--no-cache", "--force-rm"]);
        build.args(["--tag", &image.name]);
        output(build.arg(context.path()))?;
        Ok(image)
    }

    /// Makes a bridge network with IPv4 and IPv6.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn network(&self) -> Result<Network> {
        let name = unique("network");
        let subnet = format!(
            "fd4c:6162:{:x}:{:x}::/64",
            std::process::id() & 0xffff,
            names::next() & 0xffff
        );
        let arguments = ["network", "create", "--ipv6", "--subnet", &subnet, &name];
        run("docker", &arguments)?;
        Ok(Network { name })
    }
}

/// A `dockerd` of ours.
#[derive(Debug)]
struct Dockerd {
    process: Process,
    switches: Vec<(&'static str, String)>,
    _log: TempDir,
}

impl Dockerd {
    fn start() -> Result<Self> {
        let switches = SWITCHES
            .iter()
            .filter_map(|path| Some((*path, fs::read_to_string(path).ok()?)))
            .collect();
        let log = tempfile::tempdir()?;
        let path = log.path().join("dockerd.log");
        let file = File::create(&path)?;
        let mut command = Command::new("dockerd");
        // A name that stands for a kernel of one's own, for tests of how it is recognised.
        if let Some(runc) = find("runc") {
            let runtime = format!("kata-runtime={}", runc.display());
            command.args(["--add-runtime", &runtime]);
        }
        command.stdout(file.try_clone()?).stderr(file);
        let mut daemon = Self {
            process: Process::spawn(&mut command).context("is docker.io installed?")?,
            switches,
            _log: log,
        };
        daemon.wait_ready().with_context(|| tail(&path))?;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait_until("dockerd answers", Duration::from_secs(60), || {
            if let Some(status) = self.process.status()? {
                bail!("dockerd ended: {status}");
            }
            Ok(Docker::answers().then_some(()))
        })
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Err(error) = self.process.stop(Duration::from_secs(30)) {
            eprintln!("lab: clean-up: dockerd: {error:#}");
        }
        for (path, value) in &self.switches {
            let _refused = fs::write(path, value);
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|place| place.join(program));
    places.find(|place| place.is_file())
}

/// The last lines of a log, for an error message.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// What goes into an image.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec {
    files: Vec<(PathBuf, String)>,
    texts: Vec<(String, String)>,
    lines: Vec<String>,
}

impl ImageSpec {
    /// Copies a file of the host, following links and keeping its mode.
    #[must_use]
    pub fn file(mut self, from: impl Into<PathBuf>, to: &str) -> Self {
        self.files.push((from.into(), to.to_owned()));
        self
    }

    /// Writes a file.
    #[must_use]
    pub fn text(mut self, to: &str, content: &str) -> Self {
        self.texts.push((to.to_owned(), content.to_owned()));
        self
    }

    /// Adds a line to the Dockerfile: `ENTRYPOINT ["/sample-agent"]`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Copies a program and the shared libraries it needs.
    ///
    /// # Errors
    /// When `ldd` cannot tell them.
    pub fn program(self, from: &Path, to: &str) -> Result<Self> {
        let libraries = run("ldd", &[from]).unwrap_or_default();
        let spec = libraries
            .lines()
            .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
            .fold(self, |spec, library| spec.file(library, library));
        Ok(spec.file(from, to))
    }

    fn fill(&self, root: &Path) -> Result<()> {
        for (from, to) in &self.files {
            fs::copy(from, place(root, to)?).with_context(|| from.display().to_string())?;
        }
        for (to, content) in &self.texts {
            fs::write(place(root, to)?, content)?;
        }
        Ok(())
    }
}

/// Where `to` goes below `root`; makes its folder.
fn place(root: &Path, to: &str) -> Result<PathBuf> {
    let path = root.join(to.trim_start_matches('/'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(path)
}

/// An image, removed on drop.
#[derive(Debug)]
pub struct Image {
    name: String,
}

impl Image {
    /// Its tag.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        run_quietly("docker", &["image", "rm", "--force", &self.name]);
    }
}

/// A user-defined network, removed on drop.
#[derive(Debug)]
pub struct Network {
    name: String,
}

impl Network {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        run_quietly("docker", &["network", "rm", &self.name]);
    }
}

/// How a container is to be made.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    image: String,
    name: String,
    options: Vec<String>,
    command: Vec<String>,
}

impl ContainerSpec {
    /// A container of `image` on the default bridge, running what the image says.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.name.clone(),
            name: unique("container"),
            options: Vec::new(),
            command: Vec::new(),
        }
    }

    /// Names it; the name must be unique on the machine.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Puts it on a user-defined network, where names go through Docker's own resolver.
    #[must_use]
    pub fn network(self, network: &Network) -> Self {
        self.option(&["--network", &network.name])
    }

    /// The server that is asked for names.
    #[must_use]
    pub fn dns(self, server: &str) -> Self {
        self.option(&["--dns", server])
    }

    /// Any other options of `docker create`.
    #[must_use]
    pub fn option(mut self, option: &[&str]) -> Self {
        self.options
            .extend(option.iter().copied().map(str::to_owned));
        self
    }

    /// The arguments after the image's entry point.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().copied().map(str::to_owned).collect();
        self
    }

    /// Makes the container without starting it.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn create(&self, _docker: &Docker) -> Result<Container> {
        let mut create = Command::new("docker");
        create.args(["create", "--interactive", "--name", &self.name]);
        create.args(&self.options).arg(&self.image);
        let id = output(create.args(&self.command))?;
        Ok(Container {
            name: self.name.clone(),
            id,
        })
    }

    /// Makes and starts it.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn run(&self, docker: &Docker) -> Result<Container> {
        let container = self.create(docker)?;
        container.start()?;
        Ok(container)
    }
}

/// A container, killed and removed on drop.
#[derive(Debug)]
pub struct Container {
    name: String,
    id: String,
}

impl Container {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id, all 64 digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn start(&self) -> Result<()> {
        run("docker", &["start", &self.name]).map(drop)
    }

    /// Stops it at once and starts it again.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn restart(&self) -> Result<()> {
        run("docker", &["restart", "--time", "0", &self.name]).map(drop)
    }

    /// Kills it without removing it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        run("docker", &["kill", &self.name]).map(drop)
    }

    /// Runs a command in it and returns its stdout.
    ///
    /// # Errors
    /// When it does not run or the command fails.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        run("docker", &[&["exec", &self.name], command].concat())
    }

    /// Waits for it to end by itself; returns its exit code.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub fn wait(&self, limit: Duration) -> Result<i32> {
        wait_until(&format!("{} ends", self.name), limit, || {
            let running = self.inspect("{{.State.Running}}")? == "true";
            Ok((!running).then_some(()))
        })?;
        Ok(self.inspect("{{.State.ExitCode}}")?.parse()?)
    }

    /// What it has printed.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn logs(&self) -> Result<String> {
        run("docker", &["logs", &self.name])
    }

    /// `docker inspect --format`.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn inspect(&self, format: &str) -> Result<String> {
        run("docker", &["inspect", "--format", format, &self.name])
    }

    /// The host's process id of its first process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        match self.inspect("{{.State.Pid}}")?.parse()? {
            0 => bail!("{} does not run", self.name),
            pid => Ok(pid),
        }
    }

    /// Its path in the cgroup version 2 hierarchy.
    ///
    /// # Errors
    /// When it does not run.
    pub fn cgroup(&self) -> Result<String> {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid()?))?;
        groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .map(str::to_owned)
            .context("not in a version 2 cgroup")
    }

    /// Its address on its first network.
    ///
    /// # Errors
    /// When it does not run.
    pub fn ip(&self) -> Result<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = self.inspect(format)?;
        let first = addresses.split(' ').next().unwrap_or_default();
        Ok(first.parse()?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        run_quietly("docker", &["rm", "--force", "--volumes", &self.name]);
    }
}
