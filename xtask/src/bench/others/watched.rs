//! `Watched`: a load that a tool, or the daemon, watches; and what came of it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Cgroup, Log, Namespace, Process, wait_until};
use tempfile::TempDir;

use super::{
    super::{
        pairs::{Sample, sample},
        rig::{Rig, cpu_seconds, folder, last_core, pause, status_bytes, urgent},
    },
    TAG,
    tool::{Tool, Way},
};

/// Until a tool has attached itself after it has said so, and until it has written what it saw.
const SETTLE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
const READY: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(30);
const MIB: f64 = (1 << 20) as f64;

/// What was told of a load, and what telling it took.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Connections that were told of.
    pub(super) connects: u64,
    /// Processes that were named by pid, and by the number on their command line.
    pub(super) pids: BTreeSet<u32>,
    pub(super) commands: BTreeSet<String>,
    pub(super) cpu_seconds: f64,
    pub(super) peak_mib: f64,
    pub(super) load_seconds: f64,
}

/// A tool that runs, and ends with this.
struct Running {
    process: Process,
    scratch: TempDir,
}

impl Running {
    fn start(tool: &Tool, mut command: Command) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        command
            .stdin(Stdio::null())
            .stdout(File::create(scratch.path().join("out"))?)
            .stderr(File::create(scratch.path().join("err"))?);
        let process = Process::spawn(&mut command)?;
        let mut running = Self { process, scratch };
        if let Way::Beside(word) = tool.way {
            running.wait_ready(word)?;
        }
        Ok(running)
    }

    fn wait_ready(&mut self, word: &str) -> Result<()> {
        let ready = wait_until("it says that it is ready", READY, || {
            if self.process.status()?.is_some() {
                bail!("it ended");
            }
            Ok((self.said("err") + &self.said("out"))
                .contains(word)
                .then_some(()))
        });
        pause(SETTLE)?;
        if ready.is_err() || self.process.status()?.is_some() {
            let said = self.said("err");
            let last = said.lines().last().unwrap_or("it says nothing").to_owned();
            bail!("does not run here: {last}");
        }
        Ok(())
    }

    fn said(&self, stream: &str) -> String {
        let bytes = fs::read(self.scratch.path().join(stream)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it as a person would; what it has written.
    fn end(mut self) -> Result<String> {
        pause(SETTLE)?;
        if self.process.status()?.is_none() {
            self.process.interrupt();
            self.process.wait(END)?;
        }
        Ok(self.said("out"))
    }
}

/// The load `line`, watched by `tool` in a network of its own.
pub(super) fn by_tool(rig: &Rig, tool: &Tool, line: &str) -> Result<Watched> {
    let network = Namespace::new("other")?;
    prepare(tool, &network)?;
    let mut load = network.command(rig.load_generator());
    load.args(line.split(' ')).stdout(Stdio::null());
    let mut seen = Watched::default();
    let text = match tool.way {
        Way::Beside(_) => {
            let running = Running::start(tool, beside(tool, &network))?;
            let mut load = Process::spawn(&mut load)?;
            seen.follow(running.process.pid(), &mut load)?;
            running.end()?
        }
        Way::Around => {
            let output = tempfile::NamedTempFile::new()?;
            let mut running = Process::spawn(&mut around(tool, output.path(), &load))?;
            seen.follow(running.pid(), &mut running)?;
            fs::read_to_string(output.path())?
        }
    };
    seen.take_in(tool, &text);
    Ok(seen)
}

/// The load `line`, recorded by the daemon.
pub(super) fn by_daemon(rig: &Rig, line: &str) -> Result<Watched> {
    let output = tempfile::tempdir()?;
    let cgroup = Cgroup::new("other")?;
    let daemon = rig.daemon(output.path(), &["--cgroup", &cgroup.relative()])?;
    let mut seen = Watched::default();
    let before = cpu_seconds(daemon.pid())?;
    let mut load = rig.load_in(&cgroup, line);
    let mut load = Process::spawn(load.stdout(Stdio::null()))?;
    seen.follow(daemon.pid(), &mut load)?;
    // Starting is not watching.
    seen.cpu_seconds -= before;
    daemon.stop()?;
    let log = Log::read(&folder(output.path(), &cgroup).join("flows.jsonl"))?;
    for flow in log.flows() {
        seen.connects += flow["count"].as_u64().unwrap_or_default();
        let pid = flow["pid"].as_u64().map(u32::try_from);
        seen.pids.extend(pid.transpose()?);
        seen.commands.extend(number(&flow["cmdline"].to_string()));
    }
    Ok(seen)
}

/// A sample of the costs of `calls` while `tool` watches.
pub(super) fn cost_under(rig: &Rig, tool: &Tool, salt: usize, calls: &str) -> Result<Sample> {
    let network = Namespace::new("other")?;
    prepare(tool, &network)?;
    let core = last_core()?;
    let mut load = network.command(rig.load_generator());
    load.args(["cost", &core.to_string(), &salt.to_string()]);
    load.args(calls.split(' '));
    let mut load = urgent(&load);
    match tool.way {
        Way::Beside(_) => {
            let running = Running::start(tool, beside(tool, &network))?;
            let text = lab::output(&mut load)?;
            running.end()?;
            sample(&text)
        }
        Way::Around => {
            let output = tempfile::NamedTempFile::new()?;
            sample(&lab::output(&mut around(tool, output.path(), &load))?)
        }
    }
}

fn prepare(tool: &Tool, network: &Namespace) -> Result<()> {
    if let Some(rules) = tool.rules {
        lab::output(network.command("nft").arg(rules)).context("no rules")?;
    }
    Ok(())
}

fn beside(tool: &Tool, network: &Namespace) -> Command {
    let mut command = network.command(tool.program);
    command.args(tool.arguments);
    command
}

/// The tool, which starts `load` and writes to `output`.
fn around(tool: &Tool, output: &Path, load: &Command) -> Command {
    let mut command = Command::new(tool.program);
    command.args(tool.arguments).arg("-o").arg(output).arg("--");
    command.arg(load.get_program()).args(load.get_args());
    command
}

/// What follows [`TAG`] on a command line: in JSON, and as strace writes it.
fn number(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(TAG)?;
    let mut words = rest.split(|letter: char| !letter.is_ascii_alphanumeric());
    let word = words.find(|word| !word.is_empty())?;
    word.parse::<u32>().ok().map(|number| number.to_string())
}

impl Watched {
    /// Looks at what process `pid` takes until the load has ended.
    fn follow(&mut self, pid: u32, load: &mut Process) -> Result<()> {
        let start = Instant::now();
        let status = loop {
            // One that has ended has no figures any more: those of just before are its own.
            if let (Ok(seconds), Ok(peak)) = (cpu_seconds(pid), status_bytes(pid, "VmHWM")) {
                self.cpu_seconds = seconds;
                self.peak_mib = peak as f64 / MIB;
            }
            match load.status()? {
                Some(status) => break status,
                None => pause(LOOK)?,
            }
        };
        self.load_seconds = start.elapsed().as_secs_f64();
        ensure!(status.success(), "the load generator failed");
        Ok(())
    }

    fn take_in(&mut self, tool: &Tool, text: &str) {
        for line in text.lines() {
            if let Some(told) = (tool.connection)(line) {
                self.connects += 1;
                self.pids.extend(told.pid);
            }
            self.commands.extend(number(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_a_command_line_is_written() {
        let traced =
            r#"17 execve("/x", ["/x", "once", "127.0.0.1:1", "short-lived", "42"], 0x7f) = 0"#;
        assert_eq!(number(traced).as_deref(), Some("42"));
        let logged = r#"["/x","once","127.0.0.1:1","short-lived","7"]"#;
        assert_eq!(number(logged).as_deref(), Some("7"));
        let none = r#"17 execve("/x", ["/x", "storm", "9", "short-lived"], 0x7f) = 0"#;
        assert_eq!(number(none), None);
    }
}
