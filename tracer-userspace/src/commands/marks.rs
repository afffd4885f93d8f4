//! Listening to programs that say which tool is at work, for `daemon` and `run`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use nix::sys::resource::{Resource, getrlimit};

use super::live::{self, PROC};
use crate::{
    aggregate::recorder::Recorder,
    ebpf::load::Loaded,
    mark::{
        Contexts, Shared,
        ledger::Ledger,
        server::{Server, Settings},
    },
};

/// What is said of tools: where, and how much.
#[derive(Args, Clone, Debug)]
pub struct MarkArgs {
    /// Where programs say which of their tools is at work; `none`: nowhere [default:
    /// /run/egress-tracer/mark.sock, or one of its own for `run`]
    #[arg(long, value_name = "PATH")]
    mark_socket: Option<PathBuf>,
    /// Programs that may be connected there at a time
    #[arg(long, value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    mark_connections: u32,
    /// Calls that one of them may have open; all together twice as many
    #[arg(long, value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    mark_calls: u32,
    /// How long a call may last whose end nobody tells
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = live::duration)]
    mark_limit: Duration,
}

/// Somebody listens there, as long as this lives.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: PathBuf,
    _server: Server,
}

impl MarkArgs {
    /// Listens at the place that was asked for, else at `place`. A recording without it is one whose
    /// flows are no tool's: that is an error only where the place was asked for.
    pub(super) fn listen(
        &self,
        place: &Path,
        cgroup_mount: &Path,
        loaded: &mut Loaded,
        recorder: &mut Recorder,
    ) -> anyhow::Result<Option<Listening>> {
        let Some((threads, state)) = loaded.contexts.take() else {
            return Ok(None);
        };
        let contexts = Contexts::take_over(threads, state)
            .context("cannot write the map of what threads work for")?;
        let asked = self.mark_socket.as_deref();
        if asked == Some(Path::new("none")) {
            return Ok(None);
        }
        let socket = asked.unwrap_or(place);
        let marks = Shared::new(Ledger::new(contexts.first_number()));
        recorder.attribute_with(marks.clone());
        match Server::start(self.settings(socket, cgroup_mount), marks, contexts) {
            Ok(server) => Ok(Some(Listening {
                socket: socket.to_owned(),
                _server: server,
            })),
            Err(error) if asked.is_none() => {
                tracing::warn!(
                    "flows are no tool's: cannot listen at {}: {error}",
                    socket.display()
                );
                Ok(None)
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot listen at {}", socket.display()))
            }
        }
    }

    fn settings(&self, socket: &Path, cgroup_mount: &Path) -> Settings {
        let mut settings = Settings::new(socket, Path::new(PROC), cgroup_mount);
        settings.connections = (self.mark_connections as usize).min(descriptors() / 3);
        settings.limits.calls = self.mark_calls as usize;
        settings.limits.all_calls = 2 * self.mark_calls as usize;
        settings.limits.age = u64::try_from(self.mark_limit.as_nanos()).unwrap_or(u64::MAX);
        settings
    }
}

/// Descriptors that may go to clients, three for each: the others are for logs and hooks.
fn descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft)
        .unwrap_or(usize::MAX)
        .saturating_sub(256)
}
