//! How the daemon is told against which policies flows are held, and where drift is told.

use std::{path::PathBuf, sync::Arc, time::Duration};

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
    /// The file of `ranges update`, for published ranges in the policies
    #[arg(long, value_name = "FILE", requires = "policy")]
    ranges: Option<PathBuf>,
}

/// Where policies are read from.
#[derive(Clone, Debug)]
struct Places {
    policies: PathBuf,
    /// Published ranges, where not in the usual place.
    ranges: Option<PathBuf>,
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
        let places = Places {
            policies: place.clone(),
            ranges: self.ranges.clone(),
        };
        let seen = policies::state(place);
        let (sender, receiver) = watch::channel(Arc::new(read(&places)?));
        tokio::spawn(follow(places, seen, sender));
        let webhook = self.webhook.clone().map(Webhook::spawn);
        Ok(Some(Watch::new(receiver, webhook, commands)))
    }
}

/// Until nobody holds flows against them any more. A mistake leaves the policies as they were.
async fn follow(places: Places, mut seen: policies::State, sender: watch::Sender<Arc<Policies>>) {
    while !sender.is_closed() {
        sleep(LOOK).await;
        let looked = places.policies.clone();
        let Ok(state) = spawn_blocking(move || policies::state(&looked)).await else {
            return;
        };
        if state == seen {
            continue;
        }
        seen = state;
        let changed = places.clone();
        match spawn_blocking(move || read(&changed)).await {
            Ok(Ok(policies)) => {
                let place = places.policies.display();
                tracing::info!("{place}: {} policies", policies.len());
                sender.send_replace(Arc::new(policies));
            }
            Ok(Err(error)) => tracing::error!("the policies stay as they were: {error:#}"),
            Err(_) => return,
        }
    }
}

fn read(places: &Places) -> anyhow::Result<Policies> {
    let files = policies::read(&places.policies, places.ranges.as_deref())?;
    let joined = files.into_iter().map(|(name, file)| (name, file.joined()));
    Ok(joined.collect())
}
