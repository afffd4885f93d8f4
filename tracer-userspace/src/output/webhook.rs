//! Notices to a web hook: one POST each, from a task of its own, so that nobody waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Notices that wait for their turn. Of more the new ones are lost, and counted.
const QUEUE: usize = 256;
/// For one attempt, from connecting to the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the second attempt, and before the third and last.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// For what still waits when the daemon ends.
const LAST: Duration = Duration::from_secs(5);
/// Of an answer, which nobody reads.
const MAX_ANSWER: usize = 64 * 1024;

/// An `http://` address.
#[derive(Clone, Debug)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
}

/// Why a text is no address for notices.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error("expected an address such as http://127.0.0.1:8080/drift")]
    Invalid,
    #[error(
        "only http:// is spoken here, without TLS: name a relay on this machine or in a network that you trust"
    )]
    Scheme,
    #[error("an address with a user or a password in it would be shown in the process list")]
    User,
}

/// Where notices are left. Dropping it ends the task once they are delivered.
#[derive(Debug)]
pub struct Webhook {
    sender: mpsc::Sender<String>,
    lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("the answer was {0}")]
    Status(StatusCode),
}

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Invalid)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(UrlError::Scheme),
            Some(_) | None => return Err(UrlError::Invalid),
        }
        let authority = uri.authority().ok_or(UrlError::Invalid)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::User);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { uri, host, port })
    }
}

impl Webhook {
    /// Begins to deliver to `url`.
    #[must_use]
    pub fn spawn(url: Url) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(deliver(url, queue, Arc::clone(&lost)));
        Self { sender, lost, task }
    }

    /// Leaves a notice, without waiting.
    pub fn post(&self, body: String) {
        if self.sender.try_send(body).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notices that were not delivered.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits a while for what is not delivered yet.
    pub async fn end(self) {
        let Self { sender, lost, task } = self;
        let waiting = QUEUE - sender.capacity();
        drop(sender);
        let abort = task.abort_handle();
        if timeout(LAST, task).await.is_err() {
            abort.abort();
            tracing::warn!("the web hook does not answer: up to {waiting} notice(s) are lost");
        }
        let lost = lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!("{lost} notice(s) were not delivered to the web hook");
        }
    }
}

async fn deliver(url: Url, mut queue: mpsc::Receiver<String>, lost: Arc<AtomicU64>) {
    let mut is_well = true;
    while let Some(body) = queue.recv().await {
        match persist(&url, &body).await {
            Ok(()) => is_well = true,
            Err(error) => {
                lost.fetch_add(1, Ordering::Relaxed);
                // Once, not for every notice.
                if std::mem::replace(&mut is_well, false) {
                    tracing::warn!("cannot tell the web hook: {error}");
                }
            }
        }
    }
}

async fn persist(url: &Url, body: &str) -> Result<(), PostError> {
    for pause in PAUSES {
        match attempt(url, body).await {
            Ok(()) => return Ok(()),
            // It was understood, and refused: it will be again.
            Err(PostError::Status(status)) if status.is_client_error() => {
                return Err(PostError::Status(status));
            }
            Err(error) => tracing::debug!("the web hook: {error}"),
        }
        sleep(pause).await;
    }
    attempt(url, body).await
}

async fn attempt(url: &Url, body: &str) -> Result<(), PostError> {
    let answered = timeout(PATIENCE, post(url, body)).await;
    let status = answered.map_err(|_| PostError::Timeout)??;
    match status.is_success() {
        true => Ok(()),
        false => Err(PostError::Status(status)),
    }
}

/// A connection for each: notices are rare, and redirects are not followed.
async fn post(url: &Url, body: &str) -> Result<StatusCode, PostError> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = url
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    let request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(
            USER_AGENT,
            concat!("egress-tracer/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // So that the other side is not cut off in its answer; what it says does not matter.
        let _answer = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        drop(sender);
        Ok::<_, hyper::Error>(status)
    };
    let (status, ended) = tokio::join!(exchange, connection);
    if let Err(error) = ended {
        tracing::debug!("the web hook's connection: {error}");
    }
    Ok(status?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url: Url = "http://[::1]:8080/a?b".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 8080));
        let url: Url = "http://relay".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("relay", 80));
        for wrong in [
            "",
            "relay",
            "/x",
            "ftp://x",
            "http://",
            "http://a b/",
            "https://x/",
            "http://u:p@x/",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
