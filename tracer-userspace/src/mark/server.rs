//! The thread that listens: one for all clients, and for nothing else, so that it answers at once
//! whatever the rest of the daemon does.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};

use super::{
    Contexts, Shared,
    ledger::Announced,
    peer::{Peer, Roots},
    session::{Limits, Session, World},
    socket::{Arrival, Connection, Listener},
};
use crate::{
    decode::marker::{self, Done, Hello, MESSAGE, Refusal, Request},
    ebpf::clock::monotonic_now,
    privilege::outside,
    record::Registered,
};

/// What is not a session's.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const CATCH_UP: u64 = 2;
/// Sessions have two each, from here on: the connection, and the process.
const FIRST: u64 = 3;

/// Messages of one client that are taken before the others have their turn.
const TURN: usize = 32;
/// Turns after which whoever does not wait for replies is not waited for: twice what a socket holds.
const TURNS: usize = 16;
/// Milliseconds between two looks for what was forgotten.
const TIDY: u16 = 1000;
/// Names that one process may register.
const NAMES: usize = 1024;

/// Where and how much.
#[derive(Clone, Debug)]
pub struct Settings {
    pub socket: PathBuf,
    pub roots: Roots,
    pub connections: usize,
    pub limits: Limits,
}

impl Settings {
    #[must_use]
    pub fn new(socket: &Path, proc: &Path, cgroups: &Path) -> Self {
        const HOUR: u64 = 3_600_000_000_000;
        Self {
            socket: socket.to_owned(),
            roots: Roots {
                proc: proc.to_owned(),
                cgroups: cgroups.to_owned(),
            },
            connections: 1024,
            limits: Limits {
                calls: 16_384,
                all_calls: 32_768,
                age: HOUR,
            },
        }
    }
}

/// The thread, for as long as it is wanted: dropping it ends every call.
#[derive(Debug)]
pub struct Server {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens. What is said goes into `ledger` and `contexts`.
    ///
    /// # Errors
    /// The socket cannot be made, or somebody else listens there.
    pub fn start(settings: Settings, ledger: Shared, contexts: Contexts) -> io::Result<Self> {
        let socket = settings.socket.clone();
        let listener = outside::within(move || Listener::bind(&socket))??;
        let stop = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let mut room = Room::new(settings, listener, ledger, contexts, stop.clone())?;
        room.world.ledger.hearing.begin(room.catch_up.clone());
        let thread = std::thread::Builder::new()
            .name("marks".to_owned())
            .spawn(move || {
                if let Err(error) = room.listen() {
                    tracing::error!("tools are not attributed any more: {error}");
                }
                room.close();
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is read by the thread alone, which is there.
        let _told = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Client {
    /// `None` once it has hung up, while a call goes on until the process ends, or a doubt.
    connection: Option<Connection>,
    session: Session,
    /// Found no room yet: nothing more is read until it has.
    unsent: Option<Vec<u8>>,
    names: usize,
    /// When everything was read last that it had said.
    heard: u64,
    /// Whether anything that it said has changed something.
    has_acted: bool,
    /// Whether it has hung up without hearing what became of what it said.
    is_unheard: bool,
}

impl Client {
    fn new(connection: Connection, peer: Peer) -> Self {
        Self {
            connection: Some(connection),
            session: Session::new(peer),
            unsent: None,
            names: 0,
            heard: 0,
            has_acted: false,
            is_unheard: false,
        }
    }

    /// It hangs up.
    fn lose(&mut self, is_unheard: bool) {
        self.connection = None;
        self.is_unheard |= is_unheard;
    }

    /// Whether it goes on with something that we do not know: it did not wait for our word.
    fn is_doubtful(&self) -> bool {
        self.connection.is_none() && self.is_unheard && self.has_acted
    }
}

struct Room {
    settings: Settings,
    listener: Listener,
    stop: Arc<EventFd>,
    /// Somebody waits until all is heard.
    catch_up: Arc<EventFd>,
    epoll: Epoll,
    clients: HashMap<u64, Client>,
    next: u64,
    world: World,
    tidied: u64,
    /// How often in a row no thread worked for anything.
    idle: u32,
}

impl Room {
    fn new(
        settings: Settings,
        listener: Listener,
        ledger: Shared,
        contexts: Contexts,
        stop: Arc<EventFd>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            listener.fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, LISTENER),
        )?;
        epoll.add(&*stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let catch_up = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&catch_up, EpollEvent::new(EpollFlags::EPOLLIN, CATCH_UP))?;
        let limits = settings.limits;
        Ok(Self {
            settings,
            listener,
            stop,
            catch_up: Arc::new(catch_up),
            epoll,
            clients: HashMap::new(),
            next: 1,
            world: World {
                ledger,
                contexts,
                limits,
            },
            tidied: 0,
            idle: 0,
        })
    }

    fn listen(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let timeout = match self.clients.is_empty() && self.world.contexts.is_resting() {
                true => EpollTimeout::NONE,
                false => EpollTimeout::from(TIDY),
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return Ok(()),
                    LISTENER => self.accept(),
                    CATCH_UP => self.catch_up(),
                    token => self.hear(token, event.events()),
                }
            }
            let now = monotonic_now();
            if now.saturating_sub(self.tidied) >= u64::from(TIDY) * 1_000_000 {
                self.tidied = now;
                self.tidy(now)?;
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..TURN {
            match self.listener.accept() {
                Ok(None) => break,
                Ok(Some(connection)) => {
                    if let Err(error) = self.admit(connection) {
                        tracing::debug!("a client is turned away: {error}");
                        self.world.ledger.lock().counts.connections_refused += 1;
                    }
                }
                Err(error) => {
                    // Descriptors have run out: the client waits in the queue.
                    tracing::warn!("cannot hear a client: {error}");
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    break;
                }
            }
        }
    }

    fn admit(&mut self, connection: Connection) -> io::Result<()> {
        if self.clients.len() >= self.settings.connections {
            return Err(io::Error::other("there are too many"));
        }
        let peer = Peer::of(connection.fd(), &self.settings.roots)?;
        let number = self.next;
        self.next += 1;
        let token = FIRST + 2 * number;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        self.epoll.add(peer.pidfd(), readable(token + 1))?;
        self.epoll.add(connection.fd(), readable(token))?;
        self.world.ledger.lock().counts.connections += 1;
        self.clients.insert(number, Client::new(connection, peer));
        Ok(())
    }

    /// Hears everything that was said up to now, and says so.
    fn catch_up(&mut self) {
        let _many = self.catch_up.read();
        let hearing = self.world.ledger.hearing.clone();
        let asked = hearing.asked();
        self.hear_all();
        hearing.answer(asked);
    }

    /// Reads what clients have said up to now, also of those who do not stop.
    fn hear_all(&mut self) {
        let begun = monotonic_now();
        self.accept();
        let all: Vec<u64> = self.clients.keys().copied().collect();
        for number in all {
            for _ in 0..TURNS {
                self.hear(FIRST + 2 * number, EpollFlags::EPOLLIN);
                let client = self.clients.get(&number);
                if client.is_none_or(|client| client.heard >= begun || client.unsent.is_some()) {
                    break;
                }
            }
        }
    }

    fn hear(&mut self, token: u64, events: EpollFlags) {
        let (number, is_process) = ((token - FIRST) / 2, (token - FIRST) % 2 == 1);
        let Some(mut client) = self.clients.remove(&number) else {
            return;
        };
        if !is_process && client.connection.is_none() {
            // It waits for its process to end.
            self.clients.insert(number, client);
            return;
        }
        if is_process {
            let _gone = self.epoll.delete(client.session.peer.pidfd());
            // What it still had to say.
            self.read(&mut client, token - 1);
            client.session.die(&mut self.world, monotonic_now());
            return;
        }
        if events.contains(EpollFlags::EPOLLOUT) {
            self.resume(&mut client, token);
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read(&mut client, token);
        }
        let is_over = client.connection.is_none()
            && !client.session.hang_up(&mut self.world, monotonic_now())
            && !self.is_to_be_watched(&client);
        if is_over {
            let _gone = self.epoll.delete(client.session.peer.pidfd());
        } else {
            self.clients.insert(number, client);
        }
    }

    /// A client that has hung up: whether its process is in doubt from now on, until it ends.
    fn is_to_be_watched(&mut self, client: &Client) -> bool {
        if !client.is_doubtful() {
            return false;
        }
        self.doubt(client);
        let cgroup_id = client.session.peer.cgroup_id;
        let counts = &mut self.world.ledger.lock().counts;
        *counts.untold.entry(cgroup_id).or_default() += 1;
        let pid = client.session.peer.pid;
        let mut others = self.clients.values();
        !others.any(|other| other.session.peer.pid == pid && other.is_doubtful())
    }

    /// Since it was last heard, its process may have worked for what is not known.
    fn doubt(&self, client: &Client) {
        let Peer { cgroup_id, pid, .. } = client.session.peer;
        let mut ledger = self.world.ledger.lock();
        ledger.doubt(cgroup_id, pid, client.heard);
    }

    /// All that is open is known again of this process.
    fn settle(&mut self, client: &Client) {
        let Peer { cgroup_id, pid, .. } = client.session.peer;
        let mut ledger = self.world.ledger.lock();
        ledger.trust(cgroup_id, pid, monotonic_now());
        drop(ledger);
        self.clients.retain(|_, other| {
            let is_it = other.session.peer.pid == pid;
            !(is_it && other.is_doubtful() && other.session.is_idle())
        });
    }

    /// Takes what a client says, in turns with the others. Hangs up when it does.
    fn read(&mut self, client: &mut Client, token: u64) {
        let begun = monotonic_now();
        let mut buffer = [0; MESSAGE];
        for _ in 0..TURN {
            let Some(connection) = client
                .connection
                .as_ref()
                .filter(|_| client.unsent.is_none())
            else {
                return;
            };
            match connection.receive(&mut buffer) {
                Ok(Arrival::Nothing) => {
                    client.heard = begun;
                    return;
                }
                Ok(Arrival::Message {
                    pid,
                    length,
                    is_cut,
                }) => {
                    let outcome = match is_cut {
                        true => Err(Refusal::TooLong),
                        false => self.obey(client, pid, buffer.get(..length).unwrap_or_default()),
                    };
                    self.answer(client, token, outcome);
                }
                Ok(Arrival::End) => return client.lose(false),
                // The kernel says that a reply was not read.
                Err(_) => return client.lose(true),
            }
        }
    }

    fn answer(&mut self, client: &mut Client, token: u64, outcome: Result<Done, Refusal>) {
        self.count(client, outcome);
        client.has_acted |= outcome.is_ok();
        let reply = marker::reply(outcome);
        let Some(connection) = &client.connection else {
            return;
        };
        match connection.reply(&reply) {
            Ok(true) => {}
            Ok(false) => {
                client.unsent = Some(reply);
                self.want(client, token, EpollFlags::EPOLLOUT);
            }
            Err(_) => client.lose(true),
        }
    }

    /// There is room again for what it did not read.
    fn resume(&mut self, client: &mut Client, token: u64) {
        let (Some(connection), Some(reply)) = (&client.connection, client.unsent.take()) else {
            return;
        };
        match connection.reply(&reply) {
            Ok(true) => self.want(client, token, EpollFlags::EPOLLIN),
            Ok(false) => client.unsent = Some(reply),
            Err(_) => client.lose(true),
        }
    }

    fn want(&self, client: &mut Client, token: u64, flags: EpollFlags) {
        let Some(connection) = &client.connection else {
            return;
        };
        let mut event = EpollEvent::new(flags, token);
        if self.epoll.modify(connection.fd(), &mut event).is_err() {
            client.lose(true);
        }
    }

    fn count(&mut self, client: &Client, outcome: Result<Done, Refusal>) {
        let counts = &mut self.world.ledger.lock().counts;
        counts.messages += 1;
        if let Err(refusal) = outcome {
            *counts.refused.entry(refusal.code()).or_default() += 1;
            if refusal == Refusal::Limit {
                let cgroup_id = client.session.peer.cgroup_id;
                *counts.untold.entry(cgroup_id).or_default() += 1;
            }
        }
    }

    fn obey(&mut self, client: &mut Client, pid: u32, message: &[u8]) -> Result<Done, Refusal> {
        if pid != client.session.peer.pid {
            return Err(Refusal::NotYours);
        }
        let request = marker::parse(message)?;
        let is_hello = matches!(request, Request::Hello(_));
        let done = self.act(client, request);
        if done == Err(Refusal::Limit) && !is_hello {
            // It goes on, with a call that we have no room for.
            self.doubt(client);
        }
        done
    }

    fn act(&mut self, client: &mut Client, request: Request) -> Result<Done, Refusal> {
        let world = &mut self.world;
        let session = &mut client.session;
        let thread = |session: &Session, tid: Option<u32>| match tid {
            Some(tid) => session.peer.thread(tid).ok_or(Refusal::NoThread),
            None => Ok(session.peer.pid),
        };
        match request {
            Request::Hello(hello) => return greet(world, client, hello),
            Request::Begin(begin) => {
                let tid = match begin.scope {
                    marker::Scope::Process => None,
                    marker::Scope::Thread | marker::Scope::Task => begin.tid,
                };
                let tid = thread(session, tid)?;
                session.begin(world, begin, tid, monotonic_now())?;
            }
            Request::End { call } => session.end(world, &call, monotonic_now())?,
            Request::Use(wanted) => {
                let tid = thread(session, wanted.tid)?;
                session.work_for(world, wanted, tid, monotonic_now())?;
            }
            Request::Shared => session.share(world)?,
            Request::Unsaid => self.doubt(client),
            Request::Settled => self.settle(client),
        }
        Ok(Done::Fine)
    }

    /// Forgets what is over, and closes what was forgotten.
    fn tidy(&mut self, now: u64) -> io::Result<()> {
        // So that a doubt does not begin long before its reason.
        self.hear_all();
        if self.world.contexts.is_resting() {
            self.world.ledger.lock().forget(&HashSet::new());
            return Ok(());
        }
        let present = self.world.contexts.all()?;
        for client in self.clients.values_mut() {
            client.session.tidy(&mut self.world, &present, now);
        }
        let in_use: HashSet<u32> = present.values().map(|context| context.id).collect();
        let mut ledger = self.world.ledger.lock();
        ledger.forget(&in_use);
        ledger.forget_kept(&in_use);
        self.idle = match present.is_empty() && ledger.open() == 0 {
            true => self.idle + 1,
            false => 0,
        };
        drop(ledger);
        // Twice: a thread may have been made while the map was read.
        if self.idle >= 2 {
            self.world.contexts.rest()?;
        }
        Ok(())
    }

    /// Nobody works for anybody once nobody listens.
    fn close(&mut self) {
        let now = monotonic_now();
        self.world.ledger.hearing.end();
        for (_, mut client) in self.clients.drain() {
            client.session.die(&mut self.world, now);
        }
        if let Err(error) = self.world.contexts.clear() {
            tracing::warn!("threads stay marked: {error}");
        }
        let _stopped = self.stop.read();
    }
}

fn greet(world: &World, client: &mut Client, hello: Hello) -> Result<Done, Refusal> {
    if hello.v != marker::VERSION {
        return Err(Refusal::Version);
    }
    let names = Registered {
        tools: hello.tools,
        models: hello.models,
        retrievers: hello.retrievers,
        called: Vec::new(),
    };
    let count = names.tools.len() + names.models.len() + names.retrievers.len();
    if client.names + count > NAMES {
        return Err(Refusal::Limit);
    }
    let announced = Announced {
        cgroup_id: client.session.peer.cgroup_id,
        pid: client.session.peer.pid,
        names,
    };
    if !world.ledger.lock().announce(announced) {
        return Err(Refusal::Limit);
    }
    client.names += count;
    Ok(Done::Greeted)
}
