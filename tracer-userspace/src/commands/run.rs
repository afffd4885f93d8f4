//! `run`: records one command in a cgroup of its own.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::{
    process::Child,
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    child::{Signals, exit_code, wait},
    launch::{self, Account, OWN_FAILURE},
    live::{self, Bounds, PROC},
    marks::MarkArgs,
    otlp::OtlpArgs,
    repetition::{Repeat, Repetition},
    run_cgroup::RunCgroup,
    summary,
};
use crate::{
    aggregate::{
        recorder::{Output, Recorder, Settings, Subject},
        workload::{Continuity, Foreign, WRITTEN},
    },
    ebpf::{
        batch::Terms,
        capture,
        load::{self, Loaded},
        support::{self, Cgroup2},
    },
    enrich::cgroup::CgroupIndex,
    mark,
    output::{files::make_directory, terminal::escape},
    policy::candidates::CandidateFiles,
    workload_name,
};

/// How often the table is swept while the command runs.
const INTERVAL: Duration = Duration::from_secs(10);

/// Records one command in a cgroup of its own.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Keep the log, the candidate policy and the candidate rules in this directory
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What the policy is for [default: the command's name]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Run the command as this user [default: who called sudo]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    repeat: Repeat,
    #[command(flatten)]
    otlp: OtlpArgs,
    #[command(flatten)]
    marks: MarkArgs,
    #[command(flatten)]
    bounds: Bounds,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Records the command and exits as it does.
///
/// # Errors
/// None: a failure of its own is told in one sentence, and the exit code is 125, 126 or 127.
pub fn run(args: &RunArgs) -> ExitCode {
    match record_all(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("egress-tracer: {}", escape(&format!("{error:#}")));
            ExitCode::from(launch::exit_code(&error).unwrap_or(OWN_FAILURE))
        }
    }
}

fn record_all(args: &RunArgs) -> anyhow::Result<u8> {
    let cgroup2 = support::check(Path::new(PROC))?;
    let account = Account::choose(args.user.as_deref())?;
    let program = launch::find(&args.command[0])?;
    let mut repetition = args.repeat.plan()?;
    if let Some(directory) = &args.output {
        make_output(directory, &account)?;
    }
    live::runtime()?.block_on(async {
        // First of all: a signal that came before would leave a cgroup behind.
        let mut signals = Signals::watch().context("cannot watch for signals")?;
        let mut last = 0;
        for number in repetition.numbers() {
            let run = Run {
                program: &program,
                words: repetition.words(number, &args.command),
                line: repetition.line(number).map(OsStr::to_owned),
                number,
            };
            last = record(
                args,
                &cgroup2,
                &account,
                &run,
                &mut repetition,
                &mut signals,
            )
            .await?;
            // Whoever interrupts the command wants no more of it.
            if signals.any {
                break;
            }
            if let Some((told, is_enough)) = repetition.verdict(number) {
                eprintln!("egress-tracer: {told}");
                if is_enough {
                    break;
                }
            }
        }
        Ok(last)
    })
}

/// One run of the command.
struct Run<'a> {
    program: &'a Path,
    words: Vec<OsString>,
    /// The line of `--each`.
    line: Option<OsString>,
    number: u32,
}

async fn record(
    args: &RunArgs,
    cgroup2: &Cgroup2,
    account: &Account,
    run: &Run<'_>,
    repetition: &mut Repetition,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let cgroup = RunCgroup::make(&cgroup2.mount, Path::new(PROC))?;
    let mut loaded = load::load(args.bounds.sizes(), args.bounds.probe_log, None)?;
    loaded.attach_cgroup_events()?;
    loaded.attach_process_events();
    loaded.attach_connection_events();
    loaded.attach_cgroup(cgroup.path())?;
    let mut recorder = recorder(args, &run.words, cgroup2, &cgroup, &loaded)?;
    if let Some(spans) = args.otlp.listen()? {
        recorder.listen_to(spans);
    }
    recorder.begin()?;
    let socket = mark_socket();
    let listening = args
        .marks
        .listen(&socket, &cgroup2.mount, &mut loaded, &mut recorder)?;

    let cancel = CancellationToken::new();
    let (_commands, never) = mpsc::channel(1);
    let (mut batches, capture) = capture::spawn(
        loaded,
        args.bounds.sizes(),
        INTERVAL,
        None,
        cancel.clone(),
        Terms::unpinned(never),
    );
    let child = launch::command(run.program, &run.words, cgroup.path(), account)?
        .env("EGRESS_TRACER_RUN", run.number.to_string())
        .envs(
            listening
                .iter()
                .map(|listening| (mark::VARIABLE, &listening.socket)),
        )
        .envs(run.line.iter().map(|line| ("EGRESS_TRACER_INPUT", line)))
        .spawn()
        .context("cannot start the command")?;
    let waiting = wait_and_end(child, signals, cancel.clone());
    let (_questions, mut answers) = mpsc::channel(1);
    let reopen = Notify::new();
    let feeding = live::feed(&mut recorder, &mut batches, &mut answers, &reopen, &cancel);
    let (status, fed) = tokio::join!(waiting, feeding);

    let code = exit_code(status?);
    let finished = recorder
        .finish("exit", Some(i32::from(code)))
        .context("cannot write the end of the log");
    drop(listening);
    drop(batches);
    let captured = capture.await.context("the capture task ended badly")?;
    if let Some(directory) = &args.output {
        account.own(&written(directory)?)?;
    }
    summary::print(&recorder, &cgroup.left_behind());
    for (_, workload) in recorder.workloads() {
        repetition.learn(workload.observations(), args.output.is_some());
    }
    fed.and(finished)
        .and(captured.context("cannot read from the kernel any more"))?;
    Ok(code)
}

fn recorder(
    args: &RunArgs,
    words: &[OsString],
    cgroup2: &Cgroup2,
    cgroup: &RunCgroup,
    loaded: &Loaded,
) -> anyhow::Result<Recorder> {
    let workload = workload_name::encode(&workload(args));
    let redactor = args.bounds.redaction.redactor();
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let settings = Settings {
        host: live::host_name(),
        output: args.output.clone().map_or(Output::Memory, Output::Flat),
        keeping: args.bounds.keeping(Foreign::Merge),
        continuity: Continuity::default(),
        table_limit: args.bounds.table_limit(),
        start: live::start_record(loaded, redactor.command_line(&words, false)),
        process_memory: args.bounds.process_memory(),
        redactor,
        cgroup_mount: cgroup2.mount.clone(),
        expects_inventory: false,
    };
    let cgroups = CgroupIndex::walk(&cgroup2.mount).context("cannot read the cgroup hierarchy")?;
    let subject = Subject::Command {
        workload: workload.into(),
        run: random_run()?,
        cgroups: Box::new(cgroups),
        cgroup: live::below_root(&cgroup2.mount, cgroup.path()),
    };
    Ok(Recorder::new(settings, subject, Path::new(PROC)))
}

fn workload(args: &RunArgs) -> String {
    let program = Path::new(&args.command[0]);
    let base = program.file_name().unwrap_or(program.as_os_str());
    args.workload
        .clone()
        .unwrap_or_else(|| base.to_string_lossy().into_owned())
}

/// In a directory of its own, which a container may be given.
fn mark_socket() -> PathBuf {
    let place = Path::new(mark::SOCKET);
    let directory = place.parent().unwrap_or(place);
    directory
        .join(format!("run-{}", std::process::id()))
        .join("mark.sock")
}

fn random_run() -> anyhow::Result<Arc<str>> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("cannot read /proc/sys/kernel/random/uuid")?;
    let hex: String = uuid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect();
    Ok(hex.into())
}

/// The directory belongs to whoever asked for it, also under sudo.
fn make_output(directory: &Path, account: &Account) -> anyhow::Result<()> {
    let is_new = !directory.exists();
    make_directory(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    if !directory.is_dir() {
        bail!("{} is not a directory", directory.display());
    }
    if is_new {
        account.own(&[directory.to_owned()])?;
    }
    Ok(())
}

/// What is ours in the output directory: somebody else's files may be there too.
fn written(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_segment =
            name.starts_with("flows.") && (name.ends_with(".jsonl") || name.ends_with(".zst"));
        is_segment || name == WRITTEN || CandidateFiles::NAMES.contains(&&*name)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.retain(is_ours);
    Ok(paths)
}

/// Waits for the command, and then ends the recording.
async fn wait_and_end(
    child: Child,
    signals: &mut Signals,
    cancel: CancellationToken,
) -> io::Result<ExitStatus> {
    let _end = cancel.drop_guard();
    wait(child, signals).await
}
