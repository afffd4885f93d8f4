//! From a container id to what the container engines say of it.
//!
//! | file | defines |
//! |---|---|
//! | [`sockets`] | where engines listen, and how far each is believed |
//! | [`docker`] | questions in Docker's API: Docker and Podman |
//! | [`podman`] | what Podman says only in its own API |
//! | [`follow`] | their streams of events |
//! | [`cri`], [`cri_api`] | questions in Kubernetes' API: containerd, CRI-O |
//! | [`info`] | what comes of it, bounded |
//! | [`isolation`] | runtimes with a kernel of their own |
//! | [`pod_owner`] | what made a pod |
//!
//! All of it happens in tasks of its own: an engine that is slow, hangs, is absent or talks
//! nonsense delays nothing but names.

pub mod cri;
mod cri_api;
pub mod docker;
mod follow;
pub mod info;
pub mod isolation;
pub mod pod_owner;
mod podman;
pub mod sockets;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    info::ContainerInfo,
    sockets::{Api, Places, Socket, Trust},
};

/// Questions that may wait; more are refused, and counted by who asks.
const QUEUE: usize = 1024;

/// Containers that are asked about at once.
const AT_ONCE: usize = 64;

/// How long all engines together may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often new sockets are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// When a question that nobody could answer is asked again: an engine may be starting.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// An answer, asked for or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: String,
    /// `None`: no engine is there, or none knows the container after all.
    pub info: Option<ContainerInfo>,
    pub trust: Trust,
}

/// The asking end.
#[derive(Clone, Debug)]
pub struct Questions {
    sender: mpsc::Sender<String>,
}

impl Questions {
    /// Asks for a container; false if too many questions wait already.
    #[must_use]
    pub fn ask(&self, id: &str) -> bool {
        self.sender.try_send(id.to_owned()).is_ok()
    }
}

/// Where answers go, and whose they are.
#[derive(Clone, Debug)]
struct Hear {
    socket: Arc<std::path::Path>,
    trust: Trust,
    wanted: Arc<[String]>,
    answers: mpsc::Sender<Answer>,
}

impl Hear {
    /// The receiver is gone only at shutdown: the answer is then of no use.
    async fn tell(&self, id: String, info: ContainerInfo) {
        let answer = Answer {
            id,
            info: Some(info.bounded(&self.wanted)),
            trust: self.trust,
        };
        let _unsent = self.answers.send(answer).await;
    }
}

/// One engine.
#[derive(Clone, Debug)]
pub enum Engine {
    Docker(docker::Client),
    Cri(cri::Client),
}

impl Engine {
    /// Speaks to nobody yet; `None` if the socket has just gone.
    #[must_use]
    pub fn at(socket: &Socket) -> Option<Self> {
        match socket.api {
            Api::Docker => docker::Client::new(&socket.path).ok().map(Self::Docker),
            Api::Cri => cri::Client::new(&socket.path).ok().map(Self::Cri),
        }
    }

    /// What it says of a container; `None` if it does not know it or does not answer.
    pub async fn inspect(&self, id: &str) -> Option<ContainerInfo> {
        let found = match self {
            Self::Docker(client) => client.inspect(id).await.map_err(|error| error.to_string()),
            Self::Cri(client) => client.inspect(id).await.map_err(|error| error.to_string()),
        };
        found
            .inspect_err(|error| tracing::debug!(id, error, "no answer about a container"))
            .ok()
            .flatten()
    }

    /// Who answers.
    ///
    /// # Errors
    /// In a sentence: nobody does.
    pub async fn about(&self) -> Result<docker::About, String> {
        let about = match self {
            Self::Docker(client) => client.about().await.map_err(|error| error.to_string()),
            Self::Cri(client) => client
                .about()
                .await
                .map_err(|status| status.message().to_owned()),
        };
        about.cloned()
    }

    /// Ids of the containers that are not over.
    ///
    /// # Errors
    /// In a sentence.
    pub async fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Docker(client) => client.list().await.map_err(|error| error.to_string()),
            Self::Cri(client) => client.list().await.map_err(|error| error.to_string()),
        }
    }

    async fn follow(self, hear: Hear) {
        match self {
            Self::Docker(client) => follow::follow(client, hear).await,
            Self::Cri(client) => introduce(client, hear).await,
        }
    }
}

/// Tells of every container that is there, once the runtime answers: it may have come late.
async fn introduce(client: cri::Client, hear: Hear) {
    let mut pause = LOOK;
    let found = loop {
        match client.list().await {
            Ok(found) => break found,
            Err(error) if error.code() == tonic::Code::Unimplemented => return,
            Err(error) => tracing::debug!(%error, "no answer from the runtime"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    };
    for id in found {
        if let Ok(Some(info)) = client.inspect(&id).await {
            hear.tell(id, info).await;
        }
    }
}

/// Starts the task that knows the engines. `wanted` names labels that naming or selecting needs.
#[must_use]
pub fn spawn(places: Places, wanted: Vec<String>) -> (Questions, mpsc::Receiver<Answer>) {
    let (sender, questions) = mpsc::channel(QUEUE);
    let (answers, receiver) = mpsc::channel(QUEUE);
    let room = Room {
        places,
        engines: HashMap::new(),
        wanted: wanted.into(),
        answers,
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
    };
    tokio::spawn(room.serve(questions));
    (Questions { sender }, receiver)
}

/// Every engine that is there now.
struct Room {
    places: Places,
    engines: HashMap<PathBuf, Present>,
    wanted: Arc<[String]>,
    answers: mpsc::Sender<Answer>,
    at_once: Arc<Semaphore>,
}

struct Present {
    engine: Engine,
    hear: Hear,
    follower: AbortHandle,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// A question, and how often it was asked in vain.
type Question = (String, usize);

/// Those that are to be asked again, and when.
type Waiting = VecDeque<(Instant, Question)>;

impl Room {
    async fn serve(mut self, mut questions: mpsc::Receiver<String>) {
        let (missed, mut again) = mpsc::channel::<Question>(QUEUE);
        let mut waiting = VecDeque::new();
        let mut tick = interval(LOOK.min(AGAIN[0]));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                asked = questions.recv() => match asked {
                    Some(id) => {
                        self.look();
                        self.begin((id, 0), &missed).await;
                    }
                    None => return,
                },
                Some(question) = again.recv() => self.once_more(question, &mut waiting).await,
                _ = tick.tick() => {
                    self.look();
                    for question in due(&mut waiting) {
                        self.begin(question, &missed).await;
                    }
                }
            }
        }
    }

    /// Asks in a task of its own, as soon as there is a place for it.
    async fn begin(&self, question: Question, missed: &mpsc::Sender<Question>) {
        let place = self.at_once.clone().acquire_owned().await;
        let engines = self.engines.values();
        let engines = engines
            .map(|present| (present.engine.clone(), present.hear.clone()))
            .collect();
        let missed = missed.clone();
        tokio::spawn(async move {
            // Whoever answers for ever must not keep the place of those who answer.
            let asked = timeout(PATIENCE, ask(engines, &question.0)).await;
            if !asked.unwrap_or(false) {
                let _gone = missed.send(question).await;
            }
            drop(place);
        });
    }

    /// Nobody knew: waits for its next turn, or is given up.
    async fn once_more(&self, (id, tries): Question, waiting: &mut Waiting) {
        let pause = AGAIN.get(tries).filter(|_| !self.engines.is_empty());
        match pause {
            Some(pause) if waiting.len() < QUEUE => {
                waiting.push_back((Instant::now() + *pause, (id, tries + 1)));
            }
            Some(_) | None => {
                let answer = Answer {
                    id,
                    info: None,
                    trust: Trust::Machine,
                };
                let _unsent = self.answers.send(answer).await;
            }
        }
    }

    /// Takes in sockets that have come, lets go of those that went.
    fn look(&mut self) {
        let found = self.places.present();
        self.engines.retain(|path, present| {
            let same = found.iter().find(|socket| socket.path == *path);
            same.is_some_and(|socket| socket.trust == present.hear.trust)
        });
        for socket in found {
            if self.engines.contains_key(&socket.path) {
                continue;
            }
            let Some(engine) = Engine::at(&socket) else {
                continue;
            };
            let hear = Hear {
                socket: socket.path.clone().into(),
                trust: socket.trust,
                wanted: self.wanted.clone(),
                answers: self.answers.clone(),
            };
            let follower = tokio::spawn(engine.clone().follow(hear.clone())).abort_handle();
            let present = Present {
                engine,
                hear,
                follower,
            };
            self.engines.insert(socket.path, present);
        }
    }
}

/// Takes out the questions whose time has come.
fn due(waiting: &mut Waiting) -> Vec<Question> {
    let now = Instant::now();
    let (due, later) = waiting.drain(..).partition(|(time, _)| *time <= now);
    *waiting = later;
    let due: Waiting = due;
    due.into_iter().map(|(_, question)| question).collect()
}

/// Asks all of them at once; the first who knows is believed, as far as it may be.
async fn ask(engines: Vec<(Engine, Hear)>, id: &str) -> bool {
    let mut asked = JoinSet::new();
    for (engine, hear) in engines {
        let id = id.to_owned();
        asked.spawn(async move {
            let info = engine.inspect(&id).await?;
            hear.tell(id, info).await;
            Some(hear.trust)
        });
    }
    while let Some(done) = asked.join_next().await {
        // What a user's engine says may be disbelieved: the others are heard as well.
        if matches!(done, Ok(Some(Trust::Machine))) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_there_is_no_engine_that_is_said_at_once() {
        let places = Places {
            docker: vec!["/nonexistent/docker.sock".into()],
            cri: Vec::new(),
            users: None,
        };
        let (questions, mut answers) = spawn(places, Vec::new());
        assert!(questions.ask("abc"));
        let expected = Answer {
            id: "abc".into(),
            info: None,
            trust: Trust::Machine,
        };
        assert_eq!(answers.recv().await, Some(expected));
    }
}
