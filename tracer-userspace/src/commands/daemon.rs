//! `daemon`: records containers, pods, units and the host as they come and go.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{
    drift_watch::DriftArgs,
    engines::Engines,
    live::{self, Bounds, PROC},
    marks::MarkArgs,
    otlp::OtlpArgs,
    takeover::{self, PinArgs, Takeover},
};
use crate::{
    aggregate::{
        recorder::{Output, Recorder, Settings, Subject},
        workload::Foreign,
    },
    ebpf::{
        batch::{Command, Terms},
        capture,
        load::{self, Loaded},
        pin::Pins,
        support::{self, Cgroup2},
        sys,
    },
    enrich::{
        cgroup::CgroupIndex,
        engine,
        machine::Machine,
        naming::{Criterion, WorkloadBy},
        selection::{LabelSelector, Selection},
    },
    inventory, mark,
    output::files::make_directory,
    privilege::{self, outside},
};

/// Records containers, pods and units as they come and go, and the host as one more.
#[derive(Args, Debug)]
pub struct DaemonArgs {
    /// Where each workload gets a directory with its log and candidates
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = "/var/lib/egress-tracer"
    )]
    output: PathBuf,
    /// How often the log and the candidates are written
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = live::duration)]
    interval: Duration,
    /// Record only containers whose name, pod or workload matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    container: Vec<glob::Pattern>,
    /// Record only containers that have this label; given several times, all of them
    #[arg(long, value_name = "KEY[=GLOB]")]
    label: Vec<LabelSelector>,
    /// Record only pods of this namespace; may be given several times
    #[arg(long, value_name = "GLOB")]
    namespace: Vec<glob::Pattern>,
    /// Record only below this cgroup (v2); may be given several times
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<PathBuf>,
    /// What a workload is called after, the first that applies: name, image, compose-service,
    /// pod-owner, label:KEY, unit, cgroup:GLOB, command; then compose-service, pod-owner, name,
    /// unit
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    workload_by: Vec<Criterion>,
    /// Connections to record that are open already when recording begins; 0: none
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    open_sockets: usize,
    /// Make this file once every hook is attached, and remove it at the end
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    drift: DriftArgs,
    #[command(flatten)]
    otlp: OtlpArgs,
    #[command(flatten)]
    engines: Engines,
    #[command(flatten)]
    marks: MarkArgs,
    #[command(flatten)]
    pins: PinArgs,
    #[command(flatten)]
    bounds: Bounds,
}

/// Cgroups that may wait for their hooks.
const COMMANDS: usize = 4096;

/// Records until SIGINT or SIGTERM.
///
/// # Errors
/// One sentence that says what to do.
pub(super) fn daemon(args: &DaemonArgs) -> anyhow::Result<()> {
    let cgroup2 = support::check(Path::new(PROC))?;
    let chosen = chosen(args, &cgroup2)?;
    let _lock = lock(&args.output)?;
    if let Some(left_by_a_crash) = &args.ready_file {
        let _gone = fs::remove_file(left_by_a_crash);
    }
    live::raise_file_limit();
    if let Err(error) = sys::go_first() {
        tracing::debug!("hooks may come late on a busy machine: {error}");
    }
    // May mount a bpffs, which nobody may any more afterwards.
    let pins = args.pins.open()?;
    let written: Vec<&Path> = std::iter::once(args.output.as_path())
        .chain(pins.as_ref().map(Pins::root))
        .collect();
    privilege::give_up(&written);
    live::runtime()?.block_on(record(args, &cgroup2, &chosen, pins))
}

async fn record(
    args: &DaemonArgs,
    cgroup2: &Cgroup2,
    chosen: &[PathBuf],
    pins: Option<Pins>,
) -> anyhow::Result<()> {
    let sizes = args.bounds.sizes();
    let mut loaded = load::load(sizes, args.bounds.probe_log, pins.as_ref())?;
    privilege::load_no_more();
    // First, so that no container slips between the walk and the events.
    loaded.attach_cgroup_events()?;
    loaded.attach_process_events();
    loaded.attach_connection_events();
    let selection = selection(args, cgroup2, chosen);
    let workload_by = WorkloadBy(args.workload_by.clone());
    let (questions, mut answers) =
        engine::spawn(args.engines.places(), wanted(&selection, &workload_by));
    let by_container = selection.is_by_container() && chosen.is_empty();
    let machine = Machine::new(
        Path::new(PROC),
        CgroupIndex::walk(&cgroup2.mount).context("cannot read the cgroup hierarchy")?,
        sys::own_netns_cookie().unwrap_or(0),
        selection,
        workload_by,
        questions,
        Instant::now(),
    )
    .hiding(args.bounds.redaction.redactor());
    let kept = loaded.linked_cgroups();
    if by_container {
        let containers = machine.memory().map(|known| known.cgroup_id);
        let wanted = containers.chain(machine.engine_cgroup()).collect();
        loaded.keep_cgroups(&wanted)?;
    } else {
        attach(&mut loaded, cgroup2, chosen)?;
    }
    let takeover = Takeover::find(&args.output, &mut loaded)?;
    let is_adopted = takeover.is_adopted();
    if !is_adopted && let Some(iterator) = loaded.bound_before() {
        outside::at_length(move || inventory::servers::mark(PROC.into(), &iterator))?;
    }
    // Listing again would count a second time what an earlier daemon has counted.
    let listing = (!is_adopted).then(|| inventory(args, cgroup2));
    let inventory = listing.flatten();
    let mut start = live::start_record(&loaded, Vec::new());
    if args.open_sockets > 0 && !inventory::is_supported() {
        let missing = ("sock_diag".to_owned(), inventory::UNLISTED.to_owned());
        start.missing.extend([missing]);
    }
    let settings = Settings {
        host: live::host_name(),
        output: Output::PerWorkload(args.output.clone()),
        keeping: args.bounds.keeping(Foreign::Leave),
        continuity: takeover.continuity.clone(),
        table_limit: args.bounds.table_limit(),
        start,
        expects_inventory: inventory.is_some(),
        process_memory: args.bounds.process_memory(),
        redactor: args.bounds.redaction.redactor(),
        cgroup_mount: cgroup2.mount.clone(),
    };
    let mut recorder = Recorder::new(
        settings,
        Subject::Machine(Box::new(machine)),
        Path::new(PROC),
    );
    let socket = Path::new(mark::SOCKET);
    let listening = args
        .marks
        .listen(socket, &cgroup2.mount, &mut loaded, &mut recorder)?;
    let (sender, commands) = mpsc::channel(COMMANDS);
    if let Some(watch) = args.drift.start(sender.clone())? {
        recorder.watch_drift(watch);
    }
    if let Some(spans) = args.otlp.listen()? {
        recorder.listen_to(spans);
    }
    recorder.watch_with(sender, &cgroup2.mount);
    let mut terms = if pins.is_some() {
        takeover.take_in(&mut recorder, &loaded, &args.output, commands)?
    } else {
        recorder.begin()?;
        Terms::unpinned(commands)
    };
    let attached = obey(&mut loaded, &mut terms.commands);
    if by_container && is_adopted {
        let is_late = |id: &u64| !kept.contains(id);
        let late: Vec<u64> = attached.into_iter().filter(is_late).collect();
        recorder.came_late(&late);
    }

    let cancel = CancellationToken::new();
    let reopen = Arc::new(tokio::sync::Notify::new());
    let reason = watch_signals(cancel.clone(), reopen.clone(), terms.detach.clone())?;
    let detach = terms.detach.clone();
    let (mut batches, capture) = capture::spawn(
        loaded,
        sizes,
        args.interval,
        inventory,
        cancel.clone(),
        terms,
    );
    let ready = match Ready::announce(args.ready_file.as_deref()) {
        Ok(ready) => ready,
        Err(error) => {
            // What was begun ends; that it could not be written matters less.
            let _written = recorder.finish("error", None);
            return Err(error);
        }
    };
    tracing::info!("recording to {}", args.output.display());

    let fed = live::feed(&mut recorder, &mut batches, &mut answers, &reopen, &cancel).await;
    drop(ready);
    let reason = reason.get().copied().unwrap_or("error");
    let finished = recorder
        .finish(reason, None)
        .context("cannot write the end of a log");
    if let Some(watch) = recorder.take_drift() {
        watch.end().await;
    }
    drop(listening);
    drop(batches);
    let captured = capture.await.context("the capture task ended badly")?;
    let left = leave(pins, &args.output, detach.load(Ordering::Relaxed));
    fed.and(finished)
        .and(captured.context("cannot read from the kernel any more"))
        .and(left)
}

/// Attaches what the recorder asks for at the start, so that being ready means it; the cgroups.
fn obey(loaded: &mut Loaded, commands: &mut mpsc::Receiver<Command>) -> Vec<u64> {
    let mut attached = Vec::new();
    while let Ok(command) = commands.try_recv() {
        let obeyed = match command {
            Command::Attach { cgroup_id, path } => {
                attached.push(cgroup_id);
                loaded.attach_cgroup(&path).map(drop)
            }
            Command::Detach { cgroup_id } => loaded.detach_cgroup(cgroup_id),
            // The first sweep of all is about to come.
            Command::Sweep => Ok(()),
        };
        if let Err(error) = obeyed {
            tracing::warn!("{error}");
        }
    }
    attached
}

/// SIGINT comes from a person who wants the tracer gone; anything else from what starts the next.
fn leave(pins: Option<Pins>, output: &Path, detach: bool) -> anyhow::Result<()> {
    match pins {
        Some(pins) if detach => {
            // The directory itself goes as well.
            let output = output.to_owned();
            outside::within(move || takeover::leave_nothing(pins, &output))?
        }
        Some(_) => {
            tracing::info!(
                "the hooks stay and go on counting for the next daemon; `egress-tracer detach` removes them"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

/// What is open already is asked for once every hook is attached, so that nothing slips between.
fn inventory(args: &DaemonArgs, cgroup2: &Cgroup2) -> Option<inventory::Request> {
    (args.open_sockets > 0 && inventory::is_supported()).then(|| inventory::Request {
        proc: PROC.into(),
        cgroup_mount: cgroup2.mount.clone(),
        max_sockets: args.open_sockets,
    })
}

/// The directories of the chosen cgroups, each once.
fn chosen(args: &DaemonArgs, cgroup2: &Cgroup2) -> anyhow::Result<Vec<PathBuf>> {
    let mut chosen = Vec::new();
    for path in &args.cgroup {
        let path = live::below_mount(&cgroup2.mount, path);
        let path = fs::canonicalize(&path)
            .with_context(|| format!("cannot open the cgroup {}", path.display()))?;
        if !chosen.contains(&path) {
            chosen.push(path);
        }
    }
    Ok(chosen)
}

/// A cgroup below another one is covered by that: attached to both, flows would count twice.
fn attach(loaded: &mut Loaded, cgroup2: &Cgroup2, chosen: &[PathBuf]) -> anyhow::Result<()> {
    let is_covered = |path: &PathBuf| {
        chosen
            .iter()
            .any(|other| other != path && path.starts_with(other))
    };
    let mut paths: Vec<&PathBuf> = chosen.iter().filter(|path| !is_covered(path)).collect();
    if paths.is_empty() {
        paths.push(&cgroup2.mount);
    }
    let id = |path: &&PathBuf| fs::metadata(path).map(|found| found.ino());
    loaded.keep_cgroups(&paths.iter().filter_map(|path| id(path).ok()).collect())?;
    for path in paths {
        loaded.attach_cgroup(path)?;
    }
    Ok(())
}

fn selection(args: &DaemonArgs, cgroup2: &Cgroup2, chosen: &[PathBuf]) -> Selection {
    let relative = |path: &PathBuf| live::below_root(&cgroup2.mount, path);
    Selection {
        containers: args.container.clone(),
        labels: args.label.clone(),
        namespaces: args.namespace.clone(),
        cgroups: chosen.iter().map(relative).collect(),
    }
}

/// The labels that must be kept, however many a container has.
fn wanted(selection: &Selection, workload_by: &WorkloadBy) -> Vec<String> {
    let selected = selection.labels.iter().map(|label| &label.key);
    selected.chain(workload_by.labels()).cloned().collect()
}

/// SIGINT and SIGTERM end the recording; SIGHUP reopens the logs. Tells which one it was.
fn watch_signals(
    cancel: CancellationToken,
    reopen: Arc<tokio::sync::Notify>,
    detach: Arc<AtomicBool>,
) -> anyhow::Result<Arc<std::sync::OnceLock<&'static str>>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let reason = Arc::new(std::sync::OnceLock::new());
    let told = reason.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                _ = hangup.recv() => {
                    reopen.notify_one();
                    continue;
                }
            };
            if name == "SIGINT" {
                detach.store(true, Ordering::Relaxed);
            }
            told.get_or_init(|| name);
            cancel.cancel();
        }
    });
    Ok(reason)
}

/// Holds the output directory: two daemons would spoil each other's logs.
fn lock(directory: &Path) -> anyhow::Result<File> {
    make_directory(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let path = directory.join(".daemon.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            bail!(
                "another daemon (pid {}) records to {}",
                pid.trim(),
                directory.display()
            )
        }
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Tells that every hook is attached, for as long as it lives.
pub(super) struct Ready(Option<PathBuf>);

impl Ready {
    pub(super) fn announce(file: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = file {
            let (file, pid) = (path.to_owned(), format!("{}\n", std::process::id()));
            outside::within(move || fs::write(file, pid))
                .flatten()
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Not started by systemd: nobody to tell.
        let _told = sd_notify::notify(&[NotifyState::Ready]);
        Ok(Self(file.map(Path::to_owned)))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _told = sd_notify::notify(&[NotifyState::Stopping]);
        if let Some(path) = self.0.take() {
            let _gone = outside::within(move || fs::remove_file(path));
        }
    }
}
