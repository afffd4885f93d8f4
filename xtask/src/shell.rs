//! Running other programs, as root where that is needed.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Goes to the top of the repository, where the process works from then on. Returns the folder
/// the user called from.
pub(crate) fn enter_repository() -> Result<PathBuf> {
    let callers = env::current_dir()?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = manifest.parent().context("xtask lies in no folder")?;
    env::set_current_dir(top).with_context(|| top.display().to_string())?;
    Ok(callers)
}

/// A command that will run as root: through sudo unless this process is root's already.
/// PATH is kept, since root's may lack what was just installed for the user.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if lab::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    let path = env::var("PATH").unwrap_or_default();
    command.arg("env").arg(format!("PATH={path}")).arg(program);
    command
}

/// Runs `command` with this process's terminal; it must succeed.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", spell(command)))?;
    if interrupted() {
        bail!("interrupted");
    }
    if !status.success() {
        bail!("{}: {status}", spell(command));
    }
    Ok(())
}

/// Runs `command` and returns its stdout, when it succeeds.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// `cargo` with the words of `line`, on the toolchain that runs xtask.
pub(crate) fn cargo(line: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(line.split(' '));
    command
}

/// `rustup` with the words of `line`.
pub(crate) fn rustup(line: &str) -> Command {
    plain("rustup", line)
}

/// `program` with the words of `line`, as the user would get it: without the variables by which
/// `cargo run` binds its children to its own toolchain.
pub(crate) fn plain(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split(' '));
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command
}

/// Where `program` is, among PATH and the folders that only root has in it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// From now on Ctrl-C and SIGTERM only set a flag, so that guards get to clean up. Children in
/// the foreground get the signal themselves.
pub(crate) fn survive_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("no signal handler")
}

/// Whether the user asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
