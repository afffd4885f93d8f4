//! `Filler`: puts addresses into nftables sets, and puts them in again after the table was replaced.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::names::{
    message::{self, Change},
    tally::Tally,
    watch::Addition,
};

/// Changes in one transaction: well below what a socket takes at once.
const BATCH: usize = 256;
/// Replies that the kernel sends at once.
const REPLY_BYTES: usize = 64 * 1024;
/// errno.h
const ENOENT: i32 = 2;
const ENFILE: i32 = 23;

/// The sets of one table, as far as they were filled from here.
pub(super) struct Filler {
    socket: Socket,
    table: String,
    /// By how much an element may end earlier than another answer would have it.
    slack: Duration,
    sequence: u32,
    /// When each element that is in a set ends.
    held: HashMap<(Arc<str>, IpAddr), Instant>,
    /// Of the table: another one once it was made anew.
    handle: Option<u64>,
    pub(super) tally: Tally,
}

impl Filler {
    /// # Errors
    /// The kernel refuses a socket, or has no such table in this network namespace.
    pub(super) fn new(table: &str, grace: Duration) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Everything is answered before sending returns: what is not there then will not come.
        socket.set_non_blocking(true)?;
        let mut filler = Self {
            socket,
            table: table.to_owned(),
            slack: grace / 2,
            sequence: 0,
            held: HashMap::new(),
            handle: None,
            tally: Tally::default(),
        };
        filler.handle = filler.ask_handle()?;
        match filler.handle {
            Some(_) => Ok(filler),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Puts addresses into their sets before it returns, all in one transaction where nothing stands
    /// in the way.
    pub(super) fn fill(&mut self, additions: &[Addition]) {
        let now = Instant::now();
        let news: Vec<&Addition> = additions
            .iter()
            .filter(|addition| self.is_news(addition, now))
            .collect();
        for part in news.chunks(BATCH) {
            self.fill_part(part, now);
        }
    }

    /// Forgets what is over, and fills the table anew if it is not the one that was filled.
    pub(super) fn look_after(&mut self) {
        let now = Instant::now();
        self.held.retain(|_, end| *end > now);
        let Ok(handle) = self.ask_handle() else {
            return;
        };
        if handle == self.handle || handle.is_none() {
            return;
        }
        self.handle = handle;
        let again: Vec<Addition> = self
            .held
            .drain()
            .map(|((set, address), end)| Addition {
                set,
                address,
                life: end.saturating_duration_since(now),
            })
            .collect();
        self.fill(&again);
    }

    /// What stays in its set for the TTL and half of the grace is left alone: answers come often, and
    /// each change is a transaction.
    fn is_news(&self, addition: &Addition, now: Instant) -> bool {
        let key = (Arc::clone(&addition.set), addition.address);
        self.held.get(&key).is_none_or(|end| {
            let left = end.saturating_duration_since(now);
            left + self.slack < addition.life
        })
    }

    fn fill_part(&mut self, part: &[&Addition], now: Instant) {
        // Kernels before 6.12 do not prolong an element: it is replaced, in the same transaction.
        let replaced: Vec<Change<'_>> = part
            .iter()
            .filter(|addition| {
                let key = (Arc::clone(&addition.set), addition.address);
                self.held.get(&key).is_some_and(|end| *end > now)
            })
            .map(|addition| Change::Remove {
                set: &addition.set,
                address: addition.address,
            })
            .collect();
        let added: Vec<Change<'_>> = part.iter().map(|addition| add(addition)).collect();
        let all = [replaced, added].concat();
        if self.change(&all) == Ok(()) {
            part.iter().for_each(|addition| self.note(addition, now));
            return;
        }
        // One change that is refused takes back the others.
        for addition in part {
            match self.change(&[add(addition)]) {
                Ok(()) => self.note(addition, now),
                Err(ENFILE) => self.tally.full += 1,
                Err(_) => self.tally.failed += 1,
            }
        }
    }

    fn note(&mut self, addition: &Addition, now: Instant) {
        self.tally.added += 1;
        let key = (Arc::clone(&addition.set), addition.address);
        self.held.insert(key, now + addition.life);
    }

    /// One transaction.
    ///
    /// # Errors
    /// The first errno that the kernel answers with, or that speaking to it does.
    fn change(&mut self, changes: &[Change<'_>]) -> Result<(), i32> {
        let errno = |error: &io::Error| error.raw_os_error().unwrap_or(ENOENT);
        let first = self.next_sequence(changes.len() + 2);
        let bytes = message::batch(&self.table, changes, first);
        self.drain();
        self.socket.send(&bytes, 0).map_err(|error| errno(&error))?;
        let mut open = changes.len();
        while open > 0 {
            let bytes = self.receive().map_err(|error| errno(&error))?;
            for reply in message::replies(&bytes) {
                if reply.error != 0 {
                    return Err(reply.error);
                }
                open = open.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// `None`: there is no such table.
    fn ask_handle(&mut self) -> io::Result<Option<u64>> {
        let sequence = self.next_sequence(1);
        self.drain();
        self.socket
            .send(&message::get_table(&self.table, sequence), 0)?;
        let bytes = self.receive()?;
        let found = message::handle(&bytes);
        let mut replies = message::replies(&bytes).into_iter();
        match (found, replies.next().map(|reply| reply.error)) {
            (Some(handle), _) => Ok(Some(handle)),
            (None, Some(ENOENT)) => Ok(None),
            (None, Some(error)) => Err(io::Error::from_raw_os_error(error)),
            (None, None) => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    fn next_sequence(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        first
    }

    /// Replies to what was given up on are no replies to what comes next.
    fn drain(&mut self) {
        while self.receive().is_ok() {}
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(REPLY_BYTES);
        self.socket.recv(&mut bytes, 0)?;
        Ok(bytes)
    }
}

fn add(addition: &Addition) -> Change<'_> {
    Change::Add {
        set: &addition.set,
        address: addition.address,
        life: addition.life,
    }
}
