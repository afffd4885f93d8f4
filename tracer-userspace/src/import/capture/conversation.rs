//! `Conversation`: two ends that talk, who began, what became of it, and what the first bytes say.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use jiff::Timestamp;

use crate::{
    decode::{
        Progress,
        first_bytes::{self, FirstBytes, MAX_FIRST_BYTES},
        quic::Initials,
        stream::Stream,
    },
    record::{Name, NameSource, Outcome, Protocol},
    wire::{
        answers::Resolved,
        claims::{self, of_first_bytes, of_hello},
    },
};

/// DNS messages over TCP have a length of 16 bits.
const MAX_DNS: usize = 2 + u16::MAX as usize;
/// Datagrams of a client after which it will not begin to speak QUIC.
const MAX_UNKNOWN_DATAGRAMS: u64 = 4;

/// One end: the address, IPv4 as IPv6 (`::ffff:a.b.c.d`), and the port. Made anew for each packet,
/// compared and hashed: small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End(u128, u16);

impl End {
    fn of(end: SocketAddr) -> Self {
        let ip = match end.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self(ip.to_bits(), end.port())
    }

    fn address(self) -> SocketAddr {
        let ip = Ipv6Addr::from_bits(self.0).to_canonical();
        SocketAddr::new(ip, self.1)
    }
}

/// Both ends, in an order that does not depend on who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) protocol: Protocol,
    low: End,
    high: End,
}

impl Hash for Key {
    /// In few words: for each packet it is done anew.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.low.1) << 16 | u64::from(self.high.1);
        state.write_u64(u64::from(self.protocol.0) << 32 | ports);
        state.write_u128(self.low.0);
        state.write_u128(self.high.0);
    }
}

impl Key {
    /// The key, and whether `source` is its low end.
    pub(super) fn of(
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> (Self, bool) {
        let (source, destination) = (End::of(source), End::of(destination));
        let source_is_low = source <= destination;
        let (low, high) = if source_is_low {
            (source, destination)
        } else {
            (destination, source)
        };
        let key = Self {
            protocol,
            low,
            high,
        };
        (key, source_is_low)
    }

    pub(super) fn low(&self) -> SocketAddr {
        self.low.address()
    }

    pub(super) fn high(&self) -> SocketAddr {
        self.high.address()
    }
}

/// One connection, or all that two ends exchange over a protocol without connections.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) client_is_low: bool,
    /// Connections, or what a protocol without them counts.
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) outcome: Option<Outcome>,
    /// What the client had resolved to this address when it began.
    pub(super) resolved: Resolved,
    /// The first SYN's sequence number, and how many came.
    pub(super) first_sequence: Option<u32>,
    pub(super) syns: u8,
    /// FIN or RST was seen: a SYN begins something new.
    pub(super) is_closing: bool,
    pub(super) listening: Listening,
    pub(super) claims: Vec<Name>,
}

/// What is still being read of a conversation.
#[derive(Debug)]
pub(super) enum Listening {
    /// Nothing more.
    Deaf,
    /// The first bytes of a TCP client, from its first sequence number on.
    First(Option<Box<Stream>>),
    /// DNS over TCP: client and server.
    Dns(Box<[Option<Stream>; 2]>),
    /// A UDP client that may speak QUIC, and how many datagrams it sent.
    Datagrams(u64),
    Quic(Box<Initials>),
}

impl Conversation {
    pub(super) fn new(client_is_low: bool, time: Timestamp, listening: Listening) -> Self {
        Self {
            client_is_low,
            count: 0,
            first: time,
            last: time,
            sent: 0,
            received: 0,
            outcome: None,
            resolved: Resolved::default(),
            first_sequence: None,
            syns: 0,
            is_closing: false,
            listening,
            claims: Vec::new(),
        }
    }

    /// Client and server.
    pub(super) fn ends(&self, key: &Key) -> (SocketAddr, SocketAddr) {
        if self.client_is_low {
            (key.low(), key.high())
        } else {
            (key.high(), key.low())
        }
    }

    /// The other side was heard, which nothing later changes.
    pub(super) fn answered(&mut self) {
        self.outcome = Some(Outcome::Established);
    }

    /// It did not get there, unless it did before.
    pub(super) fn failed(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// How it ended, as far as a capture shows.
    pub(super) fn outcome(&self) -> Outcome {
        match self.outcome {
            Some(outcome) => outcome,
            // Asked again and never answered.
            None if self.syns > 1 => Outcome::Timeout,
            None => Outcome::Unknown,
        }
    }

    /// Reads what a TCP client sends first. Returns what was refused for want of room.
    pub(super) fn client_bytes(&mut self, sequence: u32, bytes: &[u8]) -> u64 {
        let Listening::First(stream) = &mut self.listening else {
            return 0;
        };
        let first = self
            .first_sequence
            .map_or(sequence, |syn| syn.wrapping_add(1));
        // Nearly always everything is in one segment, and nothing need be kept.
        if stream.is_none() && sequence == first {
            let told = first_bytes::read(bytes);
            if told.is_complete {
                self.claim(&told);
                return 0;
            }
        }
        let new = || Box::new(Stream::new(first, MAX_FIRST_BYTES));
        let stream = stream.get_or_insert_with(new);
        let before = stream.refused();
        let is_news = stream.push(sequence, bytes);
        let refused = stream.refused() - before;
        let is_full = stream.is_full();
        if is_news {
            let told = first_bytes::read(stream.ready());
            if told.is_complete || is_full {
                self.claim(&told);
            }
        }
        refused
    }

    /// The messages that are whole in a TCP stream of DNS.
    pub(super) fn dns_bytes(
        &mut self,
        from_client: bool,
        sequence: u32,
        bytes: &[u8],
    ) -> Vec<Vec<u8>> {
        let Listening::Dns(streams) = &mut self.listening else {
            return Vec::new();
        };
        let known = self.first_sequence.filter(|_| from_client);
        let first = known.map_or(sequence, |syn| syn.wrapping_add(1));
        let stream =
            streams[usize::from(!from_client)].get_or_insert_with(|| Stream::new(first, MAX_DNS));
        stream.push(sequence, bytes);
        let mut messages = Vec::new();
        while let Some((message, length)) = crate::decode::dns::first_in_stream(stream.ready()) {
            messages.push(message.to_vec());
            stream.consume(length);
        }
        messages
    }

    /// Reads a UDP client's datagram, as far as it may be QUIC.
    pub(super) fn client_datagram(&mut self, bytes: &[u8]) {
        if let Listening::Datagrams(count) = &mut self.listening {
            *count += 1;
            let count = *count;
            match Initials::begin(bytes) {
                Some(initials) => self.listening = Listening::Quic(Box::new(initials)),
                None if count >= MAX_UNKNOWN_DATAGRAMS => self.listening = Listening::Deaf,
                None => {}
            }
        }
        if let Listening::Quic(initials) = &mut self.listening {
            match initials.push(bytes) {
                Progress::Done(hello) => {
                    self.claims.extend(of_hello(&hello, NameSource::Quic));
                    self.listening = Listening::Deaf;
                }
                Progress::More => {}
                Progress::No => self.listening = Listening::Deaf,
            }
        }
    }

    /// Takes what an unfinished stream says so far: the conversation is over.
    pub(super) fn hear_out(&mut self) {
        if let Listening::First(Some(stream)) = &self.listening {
            let told = first_bytes::read(stream.ready());
            self.claim(&told);
        }
    }

    fn claim(&mut self, told: &FirstBytes) {
        self.listening = Listening::Deaf;
        self.claims.extend(of_first_bytes(told));
    }

    /// Every name, with how far it is to be believed.
    pub(super) fn names(&self) -> Vec<Name> {
        claims::names(&self.claims, &self.resolved)
    }
}
