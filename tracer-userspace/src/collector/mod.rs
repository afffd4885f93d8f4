//! Receives OpenTelemetry spans: OTLP over HTTP and over gRPC, both at each place that is listened at.
//!
//! Off unless asked for. What comes is believed: a span says of its sender what it likes. So the
//! places are loopback addresses and Unix sockets, which the caller chooses.
//!
//! | file | defines |
//! |---|---|
//! | `http` | requests of either kind, and their answers |
//! | `place` | where is listened |

mod http;
mod place;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::place::{BadPlace, Place};
use crate::spans::Decoded;
use place::Listener;

/// Requests that wait for the recorder. Further ones are answered with "try again".
const QUEUE: usize = 32;
/// Connections at a time; further ones wait for their turn.
const CONNECTIONS: usize = 64;
/// Requests that are received at a time, in memory each.
const REQUESTS: usize = 16;
/// For one connection: exporters keep theirs open, and open another when it is gone.
const PATIENCE: Duration = Duration::from_secs(600);
/// After a failed accept, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// What has come so far, and what was done with it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were understood.
    pub requests: AtomicU64,
    /// Requests that were not, or were too long.
    pub refused: AtomicU64,
    /// Requests for which there was no room.
    pub no_room: AtomicU64,
}

/// Where requests leave their spans.
#[derive(Clone, Debug)]
struct Inbox {
    sender: mpsc::Sender<Decoded>,
    counts: Arc<Counts>,
    /// For requests.
    room: Arc<Semaphore>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    spans: mpsc::Receiver<Decoded>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Collector {
    /// Listens at every place.
    ///
    /// # Errors
    /// One of them is taken, or not ours to take.
    pub fn listen(places: &[Place]) -> Result<Self, BadPlace> {
        let (sender, spans) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let inbox = Inbox {
            sender,
            counts: counts.clone(),
            room: Arc::new(Semaphore::new(REQUESTS)),
        };
        let mut tasks = JoinSet::new();
        for place in places {
            let listener = Listener::bind(place)?;
            tasks.spawn(accept(listener, inbox.clone(), room.clone()));
        }
        Ok(Self {
            spans,
            counts,
            _tasks: tasks,
        })
    }

    /// What has come since it was last asked.
    pub fn take(&mut self) -> Option<Decoded> {
        self.spans.try_recv().ok()
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn accept(listener: Listener, inbox: Inbox, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Never closed: it lives as long as this.
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!("cannot accept an exporter: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let inbox = inbox.clone();
        connections.spawn(async move {
            let _ended = timeout(PATIENCE, serve(connection, inbox)).await;
            drop(permit);
        });
    }
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, inbox: Inbox) {
    let service = hyper::service::service_fn(move |request| http::answer(request, inbox.clone()));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(16);
    let served = builder.serve_connection(TokioIo::new(connection), service);
    if let Err(error) = served.await {
        tracing::debug!("an exporter's connection ended: {error}");
    }
}
