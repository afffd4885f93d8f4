//! First bytes of TCP connections and Initial packets of QUIC, put together until they tell a name.

use std::net::SocketAddr;

use super::datagrams;
use crate::{
    decode::{
        Progress,
        first_bytes::{self, MAX_FIRST_BYTES},
        quic::Initials,
        stream::Stream,
        wire::{Piece, Saying},
    },
    record::{Name, NameSource},
    wire::{
        claims::{of_first_bytes, of_hello},
        generations::Generations,
    },
};

/// Connections at a time that have not said everything: up to twice as many.
const MAX_UNFINISHED: usize = 256;

#[derive(Debug)]
pub(super) struct Connections {
    /// By socket cookie.
    streams: Generations<u64, Stream>,
    /// By socket cookie and peer: one socket may speak to many.
    initials: Generations<(u64, SocketAddr), Initials>,
    /// Initial packets that no known key opens.
    pub(super) undecodable: u64,
    /// Unfinished connections that had to make room.
    pub(super) refused: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            streams: Generations::new(MAX_UNFINISHED),
            initials: Generations::new(MAX_UNFINISHED),
            undecodable: 0,
            refused: 0,
        }
    }
}

impl Connections {
    /// The names that are told with this piece.
    pub(super) fn take(&mut self, piece: &Piece) -> Vec<Name> {
        match piece.saying {
            Saying::First => self.first_bytes(piece),
            Saying::Initial => {
                let datagrams = datagrams(&piece.bytes, piece.segment);
                let names = datagrams
                    .iter()
                    .map(|datagram| self.initial(piece, datagram));
                names.collect::<Vec<_>>().concat()
            }
            Saying::Question | Saying::Answer | Saying::Served => Vec::new(),
        }
    }

    /// What is told early is told: a proxy's target, though its tunnel may say more.
    fn first_bytes(&mut self, piece: &Piece) -> Vec<Name> {
        let key = piece.socket_cookie;
        // Nearly always everything is in one piece, and nothing need be kept.
        if piece.offset == 0 && self.streams.get_mut(&key).is_none() {
            let told = first_bytes::read(&piece.bytes);
            if told.is_complete {
                return of_first_bytes(&told);
            }
            let mut stream = Stream::new(0, MAX_FIRST_BYTES);
            stream.push(0, &piece.bytes);
            self.refused += self.streams.insert(key, stream).len() as u64;
            return of_first_bytes(&told);
        }
        let stream = self
            .streams
            .get_or_insert_with(key, || Stream::new(0, MAX_FIRST_BYTES));
        if !stream.push(piece.offset, &piece.bytes) {
            return Vec::new();
        }
        let told = first_bytes::read(stream.ready());
        if told.is_complete || stream.is_full() {
            self.streams.remove(&key);
        }
        of_first_bytes(&told)
    }

    fn initial(&mut self, piece: &Piece, datagram: &[u8]) -> Vec<Name> {
        let key = (piece.socket_cookie, piece.remote);
        if self.initials.get_mut(&key).is_none() {
            let Some(initials) = Initials::begin(datagram) else {
                return Vec::new();
            };
            self.refused += self.initials.insert(key, initials).len() as u64;
        }
        let Some(initials) = self.initials.get_mut(&key) else {
            return Vec::new();
        };
        match initials.push(datagram) {
            Progress::Done(hello) => {
                self.initials.remove(&key);
                of_hello(&hello, NameSource::Quic).into_iter().collect()
            }
            Progress::More => Vec::new(),
            Progress::No => {
                self.undecodable += u64::from(initials.undecryptable() > 0);
                self.initials.remove(&key);
                Vec::new()
            }
        }
    }
}
