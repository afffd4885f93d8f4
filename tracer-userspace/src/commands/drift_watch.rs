//! How the daemon is told against which policies flows are held, and where drift is told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::policies;
use crate::{
    aggregate::drift::{Policies, Watch},
    ebpf::batch::Command,
    output::webhook::{Url, Webhook},
};

/// How often the policies' files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Drift from reviewed policies, told as it happens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Drift")]
pub(super) struct DriftArgs {
    /// Hold flows against the policies of a directory, *.toml and */policy.toml, each for the
    /// workload that it names: a drift record and a warning the moment that something goes where
    /// no approval in force covers it. Read again whenever they change
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Send each drift record to this http:// address as well, as the body of a POST
    #[arg(long, value_name = "URL", requires = "policy")]
    webhook: Option<Url>,
}

impl DriftArgs {
    /// Reads the policies and begins to follow them. `None` if nobody asked.
    ///
    /// # Errors
    /// A policy cannot be read, or makes no sense.
    pub(super) fn start(&self, commands: mpsc::Sender<Command>) -> anyhow::Result<Option<Watch>> {
        let Some(place) = &self.policy else {
            return Ok(None);
        };
        let seen = policies::state(place);
        let (sender, receiver) = watch::channel(Arc::new(read(place)?));
        tokio::spawn(follow(place.clone(), seen, sender));
        let webhook = self.webhook.clone().map(Webhook::spawn);
        Ok(Some(Watch::new(receiver, webhook, commands)))
    }
}

/// Until nobody holds flows against them any more. A mistake leaves the policies as they were.
async fn follow(place: PathBuf, mut seen: policies::State, sender: watch::Sender<Arc<Policies>>) {
    while !sender.is_closed() {
        sleep(LOOK).await;
        let looked = place.clone();
        let Ok(state) = spawn_blocking(move || policies::state(&looked)).await else {
            return;
        };
        if state == seen {
            continue;
        }
        seen = state;
        let changed = place.clone();
        match spawn_blocking(move || read(&changed)).await {
            Ok(Ok(policies)) => {
                tracing::info!("{}: {} policies", place.display(), policies.len());
                sender.send_replace(Arc::new(policies));
            }
            Ok(Err(error)) => tracing::error!("the policies stay as they were: {error:#}"),
            Err(_) => return,
        }
    }
}

fn read(place: &Path) -> anyhow::Result<Policies> {
    let files = policies::read(place, None)?;
    let joined = files.into_iter().map(|(name, file)| (name, file.joined()));
    Ok(joined.collect())
}
