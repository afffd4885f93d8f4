//! Listening to what Docker or Podman do: each container is known from the moment it is made,
//! before its first process, although it may be gone a moment later.

use std::{collections::HashMap, time::Duration};

use bollard::{
    errors::Error,
    models::{EventActor, EventMessage},
    query_parameters::EventsOptionsBuilder,
};
use futures_util::StreamExt as _;
use tokio::{task::JoinSet, time::sleep};

use super::{Hear, docker::Client, info::ContainerInfo};

/// How long to wait before the engine is tried again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Questions that are under way at once.
const QUESTIONS: usize = 16;

/// After these the engine is asked about the container.
const NEWS: [&str; 4] = ["create", "start", "rename", "restart"];

/// Listens for as long as the engine is worth it, and longer: a lost stream is taken up again,
/// from where it was lost. Ends only by being dropped.
pub(super) async fn follow(client: Client, hear: Hear) {
    tokio::join!(listen_on(&client, &hear), learn(&client));
}

/// Asks who the engine is, which may take longer than a container lives.
async fn learn(client: &Client) {
    let mut pause = PAUSE.0;
    while client.about().await.is_err() {
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn listen_on(client: &Client, hear: &Hear) {
    let mut pause = PAUSE.0;
    let mut since = None;
    loop {
        let lost = listen(client, hear, &mut since, &mut pause).await;
        if let Err(error) = lost {
            tracing::debug!(%error, socket = %hear.socket.display(), "no events from the engine");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One stream, until it is lost. `since` is the time of the last event that was heard.
async fn listen(
    client: &Client,
    hear: &Hear,
    since: &mut Option<i64>,
    pause: &mut Duration,
) -> Result<(), Error> {
    let filters = HashMap::from([("type", vec!["container"]), ("event", NEWS.to_vec())]);
    let options = EventsOptionsBuilder::new().filters(&filters);
    let options = match since {
        Some(time) => options.since(&time.to_string()),
        None => options,
    };
    let mut events = Box::pin(client.engine.events(Some(options.build())));
    let mut asking = JoinSet::new();
    // What was there before. The stream is asked for first, so that nothing falls between.
    let mut before = client.list().await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the engine does not tell what is there");
        Vec::new()
    });
    *pause = PAUSE.0;
    loop {
        while asking.len() < QUESTIONS
            && let Some(id) = before.pop()
        {
            asking.spawn(ask(client.clone(), hear.clone(), id, None));
        }
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                let event = event?;
                *since = event.time.or(*since);
                if let Some((id, said)) = container(event) {
                    while asking.len() >= QUESTIONS {
                        asking.join_next().await;
                    }
                    asking.spawn(ask(client.clone(), hear.clone(), id, Some(said)));
                }
            }
            Some(_) = asking.join_next() => {}
        }
    }
}

/// The engine's full answer, or what the event itself said if the container is gone already.
async fn ask(client: Client, hear: Hear, id: String, said: Option<ContainerInfo>) {
    let info = match (client.inspect(&id).await, said) {
        (Ok(Some(info)), _) => info,
        (_, Some(said)) => client.complete(said).await,
        (_, None) => return,
    };
    hear.tell(id, info).await;
}

/// The container of an event, and what the event says of it: among its attributes are the name,
/// the image and every label.
fn container(event: EventMessage) -> Option<(String, ContainerInfo)> {
    let EventActor { id, attributes } = event.actor?;
    let mut attributes = attributes?;
    let info = ContainerInfo {
        name: attributes.remove("name")?,
        image: attributes.remove("image"),
        labels: attributes.into_iter().collect(),
        ..ContainerInfo::default()
    };
    Some((id?, info))
}
