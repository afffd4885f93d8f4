//! Running QEMU, and understanding what the guest says on its second serial port.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::Process;

use super::kernel::Kernel;
use crate::shell::interrupted;

/// How often it is looked whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(500);

/// What is booted.
pub(crate) struct Boot<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    /// Where the kernel's own messages go.
    pub(crate) console: &'a Path,
    pub(crate) accel: &'a str,
}

/// Boots, and hands `each` line over as it comes, until the machine ends, the time is up or the
/// user interrupts. QEMU is ended in any case. Returns whether the machine ended by itself.
pub(crate) fn run(boot: &Boot<'_>, budget: Duration, mut each: impl FnMut(&str)) -> Result<bool> {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-accel", boot.accel, "-cpu", "max", "-smp", "2", "-m", "3072",
        ])
        .args([
            "-display",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ])
        .arg("-serial")
        .arg(format!("file:{}", boot.console.display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&boot.kernel.image)
        .arg("-initrd")
        .arg(boot.initramfs)
        // On a busy machine an emulated timer is too late for that check, and the kernel gives up.
        .args([
            "-append",
            "console=ttyS0 panic=-1 no_timer_check quiet loglevel=4",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut machine = Process::spawn(&mut command)?;
    let said = machine
        .child()
        .stdout
        .take()
        .context("QEMU has no stdout")?;
    let (sender, lines) = channel();
    // Ends with the machine.
    thread::spawn(move || {
        for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + budget;
    while Instant::now() < end && !interrupted() {
        match lines.recv_timeout(LOOK) {
            Ok(line) => each(String::from_utf8_lossy(&line).trim_end_matches('\r')),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        }
    }
    Ok(false)
}

/// What the guest has said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    lines: Vec<String>,
    step: String,
    passed: u32,
    skipped: u32,
    failed: u32,
    ended: bool,
}

impl Told {
    /// Takes a line in. Returns what is worth showing at once.
    pub(crate) fn take_in(&mut self, line: &str) -> Option<String> {
        self.lines.push(line.to_owned());
        if line == "end" {
            self.ended = true;
        }
        if let Some(step) = line.strip_prefix("== ") {
            self.step = step.to_owned();
            return None;
        }
        if let Some(outcome) = line.strip_prefix("doctor ") {
            return Some(format!("doctor: {outcome}"));
        }
        if line.starts_with("skipped") {
            // Counted among those that passed, by the test itself.
            self.skipped += 1;
            return Some(line.to_owned());
        }
        let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        let word = match outcome {
            "ok" => {
                self.passed += 1;
                "ok"
            }
            "FAILED" => {
                self.failed += 1;
                "FAILED"
            }
            _ => return None,
        };
        Some(format!("{word:6}  {} {name}", self.step))
    }

    pub(crate) fn has_failures(&self) -> bool {
        self.failed > 0
    }

    pub(crate) fn came_to_its_end(&self) -> bool {
        self.ended
    }

    /// Something passed, nothing failed, and the plan was followed to its end.
    pub(crate) fn is_good(&self) -> bool {
        self.ended && self.failed == 0 && self.passed > 0
    }

    pub(crate) fn summary(&self) -> String {
        let end = if self.ended { "" } else { ", NOT to the end" };
        format!(
            "{} passed ({} of them skipped something), {} failed{end}",
            self.passed, self.skipped, self.failed
        )
    }

    pub(crate) fn everything(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_guest_says() {
        let mut told = Told::default();
        let lines = [
            "kernel 6.1.0",
            "== live",
            "test run::a ... ok",
            "test run::b ... FAILED",
            "skipped: c",
        ];
        let shown: Vec<_> = lines
            .into_iter()
            .filter_map(|line| told.take_in(line))
            .collect();
        assert_eq!(
            shown,
            ["ok      live run::a", "FAILED  live run::b", "skipped: c"]
        );
        assert!(!told.is_good() && !told.came_to_its_end());
        assert_eq!(
            told.summary(),
            "1 passed (1 of them skipped something), 1 failed, NOT to the end"
        );
    }
}
