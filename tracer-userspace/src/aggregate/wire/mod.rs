//! `Wire`: from parts of packets to names, for each client that has names of its own. Pure.
//!
//! A client is a container, or what else has a cgroup of its own; it is called by that cgroup's id.
//!
//! | file | defines |
//! |---|---|
//! | [`Wire`] | DNS messages: who asked, who answered, and whether that is believed |
//! | `connections` | first bytes and Initial packets, put together until they tell a name |
//! | `claimed` | what connections to a destination said, and which record has told it |

mod claimed;
mod connections;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use self::{claimed::Claimed, connections::Connections};
use crate::{
    decode::{
        dns::{self, Transport},
        stream::Stream,
        wire::{Piece, Saying},
    },
    record::{Dns, Name},
    wire::{
        answers::{Answers, Exchange, Resolved, Speaker},
        claims,
        generations::Generations,
    },
};

pub(in crate::aggregate) use self::claimed::{Destination, Late};

/// DNS over TCP in both directions, and large messages over UDP, at a time.
const MAX_STREAMS: usize = 128;
/// A message over TCP with its length.
const MAX_DNS: usize = 2 + u16::MAX as usize;
/// Answers of resolvers on this machine that are remembered.
const MAX_SERVED: usize = 16_384;
/// Resolvers of this machine that others ask by a Unix socket: up to twice as many.
const MAX_RESOLVERS: usize = 16;
/// When a question counts as unanswered: resolvers are given up earlier.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// Docker's resolver, whose port is rewritten on the way to it.
const DOCKERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const DNS_PORT: u16 = 53;

/// What tells a client's sockets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Socket {
    cookie: u64,
    port: u16,
}

/// A message in the making: by socket, and by direction (TCP) or packet (UDP).
type StreamKey = (u64, Saying, u64);

/// Whom a client may have asked for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Over the network alone: nobody else's answers are its own.
    Network,
    /// The machine's resolvers too, by their Unix sockets.
    Anybody,
}

#[derive(Debug)]
pub struct Wire {
    answers: Answers<u64, Socket>,
    streams: Generations<StreamKey, Stream>,
    /// Clients' own resolvers, and whom they answered.
    served: Generations<(u64, Transport, SocketAddr), ()>,
    connections: Connections,
    claimed: Claimed,
    /// Clients that others ask by a Unix socket, and what they are called. A unit that is started
    /// again is another client.
    resolvers: Generations<u64, Arc<str>>,
}

/// What was not understood or not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// DNS messages and records that could not be read.
    pub undecodable: u64,
    /// Answers that nobody asked for.
    pub unasked: u64,
    /// What found no room: names may be missing.
    pub refused: u64,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            answers: Answers::default(),
            streams: Generations::new(MAX_STREAMS),
            served: Generations::new(MAX_SERVED),
            connections: Connections::default(),
            claimed: Claimed::default(),
            resolvers: Generations::new(MAX_RESOLVERS),
        }
    }
}

impl Wire {
    /// Takes in what `client` said or heard at `time`. What was asked and answered thereby comes
    /// back, with whose it is.
    pub fn take(&mut self, client: u64, time: Timestamp, piece: &Piece) -> Vec<(u64, Dns)> {
        match piece.saying {
            Saying::Question | Saying::Answer => self.dns(client, time, piece),
            Saying::Served => {
                let served = (client, piece.transport, piece.remote);
                self.served.insert(served, ());
                Vec::new()
            }
            Saying::First | Saying::Initial => {
                let names = self.connections.take(piece);
                if !names.is_empty() {
                    let destination = Destination {
                        client,
                        transport: piece.transport,
                        at: piece.remote,
                    };
                    self.claimed.add(destination, time, names);
                }
                Vec::new()
            }
        }
    }

    /// What was asked and is not answered by `now`, with whose it is.
    pub fn unanswered(&mut self, now: Timestamp) -> Vec<(u64, Dns)> {
        let before = now.saturating_sub(PATIENCE).unwrap_or(Timestamp::MIN);
        self.answers.give_up(before)
    }

    /// Everything that is not answered: nothing will follow.
    pub fn all_unanswered(&mut self) -> Vec<(u64, Dns)> {
        self.answers.give_up(Timestamp::MAX)
    }

    /// What `client` is told, others are told by it.
    pub fn answers_others(&mut self, client: u64, unit: &str) {
        self.resolvers.get_or_insert_with(client, || unit.into());
    }

    /// The names under which `client` went to an address between two times. `transport` is that
    /// of a destination that has a port.
    pub fn names(
        &mut self,
        client: u64,
        asks: Asks,
        at: SocketAddr,
        transport: Option<Transport>,
        (first, last): (Timestamp, Timestamp),
    ) -> Vec<Name> {
        let mut resolved = self.answers.of(client, at.ip(), (first, last));
        if resolved.is_empty() && asks == Asks::Anybody {
            resolved = self.resolved_by_others(at.ip(), (first, last));
        }
        let claims = match transport {
            Some(transport) => self.claimed.since(
                Destination {
                    client,
                    transport,
                    at,
                },
                first,
            ),
            None => Vec::new(),
        };
        claims::names(&claims, &resolved)
    }

    fn resolved_by_others(&mut self, address: IpAddr, when: (Timestamp, Timestamp)) -> Resolved {
        for (resolver, unit) in self.resolvers.iter() {
            let resolved = self.answers.of(*resolver, address, when);
            if !resolved.is_empty() {
                let via = Some(Arc::clone(unit));
                return Resolved { via, ..resolved };
            }
        }
        Resolved::default()
    }

    /// Names of a late claim.
    pub(in crate::aggregate) fn late_names(&mut self, late: &Late) -> Vec<Name> {
        let Destination { client, at, .. } = late.destination;
        let when = (late.said, late.said);
        let resolved = self.answers.of(client, at.ip(), when);
        claims::names(&late.claims, &resolved)
    }

    pub(in crate::aggregate) fn claimed(&mut self) -> &mut Claimed {
        &mut self.claimed
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            undecodable: self.answers.undecodable + self.connections.undecodable,
            unasked: self.answers.unasked,
            refused: self.answers.refused + self.connections.refused + self.claimed.refused,
        }
    }

    fn dns(&mut self, client: u64, time: Timestamp, piece: &Piece) -> Vec<(u64, Dns)> {
        let speaker = match piece.saying {
            Saying::Answer if self.is_own(client, piece) => Speaker::OwnServer,
            Saying::Answer => Speaker::Server,
            Saying::Question | Saying::Served | Saying::First | Saying::Initial => Speaker::Client,
        };
        let port = if piece.remote.ip() == DOCKERS {
            DNS_PORT
        } else {
            piece.remote.port()
        };
        let exchange = Exchange {
            socket: Socket {
                cookie: piece.socket_cookie,
                port: piece.local.port(),
            },
            server: SocketAddr::new(piece.remote.ip(), port),
            transport: piece.transport,
        };
        let mut told = Vec::new();
        for message in self.messages(piece) {
            let news = self
                .answers
                .message(client, exchange, speaker, time, &message);
            told.extend(news);
        }
        told
    }

    /// Whether a resolver of the client's own has answered at this port: it need not have been
    /// this answer for the next to be in doubt.
    fn is_own(&mut self, client: u64, piece: &Piece) -> bool {
        let served = (client, piece.transport, piece.local);
        self.served.get_mut(&served).is_some()
    }

    /// The messages that are whole with this piece.
    fn messages(&mut self, piece: &Piece) -> Vec<Vec<u8>> {
        match piece.transport {
            Transport::Tcp => {
                let key = (piece.socket_cookie, piece.saying, 0);
                let stream = stream(&mut self.streams, key, MAX_DNS);
                stream.push(piece.offset, &piece.bytes);
                let mut messages = Vec::new();
                while let Some((message, length)) = dns::first_in_stream(stream.ready()) {
                    messages.push(message.to_vec());
                    stream.consume(length);
                }
                messages
            }
            Transport::Udp => {
                let whole = piece.total as usize;
                if piece.bytes.len() == whole {
                    return datagrams(&piece.bytes, piece.segment);
                }
                let key = (piece.socket_cookie, piece.saying, piece.at_ns);
                let stream = stream(&mut self.streams, key, whole);
                stream.push(piece.offset, &piece.bytes);
                if stream.ready().len() < whole {
                    return Vec::new();
                }
                let messages = datagrams(stream.ready(), piece.segment);
                self.streams.remove(&key);
                messages
            }
        }
    }
}

fn stream(
    streams: &mut Generations<StreamKey, Stream>,
    key: StreamKey,
    limit: usize,
) -> &mut Stream {
    streams.get_or_insert_with(key, || Stream::new(0, limit))
}

/// What a packet carries, as the receiver gets it.
fn datagrams(bytes: &[u8], segment: Option<usize>) -> Vec<Vec<u8>> {
    let length = segment.unwrap_or(bytes.len()).max(1);
    bytes.chunks(length).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
