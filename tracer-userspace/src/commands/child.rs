//! A command that runs in our place: its signals and its exit code.

use std::{
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::Child,
    signal::unix::{self, SignalKind, signal},
};

use super::launch::OWN_FAILURE;

/// Waits for the command, passing signals on to it.
pub(super) async fn wait(mut child: Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .map(Pid::from_raw);
    // A terminal sends these to the whole foreground group: the command has them already.
    let from_terminal = io::stdin().is_terminal();
    loop {
        let received = tokio::select! {
            status = child.wait() => return status,
            received = signals.next() => received,
        };
        let has_it = from_terminal && matches!(received, Signal::SIGINT | Signal::SIGQUIT);
        if let Some(pid) = pid.filter(|_| !has_it) {
            // It may have ended meanwhile: then the wait above tells.
            let _sent = kill(pid, received);
        }
    }
}

/// What is passed on to the command.
pub(super) struct Signals {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    /// One of them has come.
    pub(super) any: bool,
}

impl Signals {
    pub(super) fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            any: false,
        })
    }

    async fn next(&mut self) -> Signal {
        let received = tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
        };
        self.any = true;
        received
    }
}

/// 128+n for a command killed by signal n, as shells do.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(OWN_FAILURE)
}
