//! `Watch`: which addresses answers give to approved names. Pure: packets in, additions out.
//!
//! An answer counts if it comes from an approved resolver and answers a question that was seen. That
//! it came from outside, and not from the workload's own sockets, is what the rules of `hold` see to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    decode::{
        dns::{self, Answer, Kind, Message, Question},
        reached,
        stream::Stream,
    },
    import::capture::packet::{Packet, Segment, ports},
    names::{
        approved::{Approved, DNS_PORT},
        tally::Tally,
    },
    policy::believed::may_have_a_name,
    record::Protocol,
    wire::generations::Generations,
};

/// Questions that may wait for an answer. The workload chooses how many it asks.
const MAX_QUESTIONS: usize = 16_384;
/// Streams of DNS over TCP that are read at a time.
const MAX_STREAMS: usize = 512;
/// DNS messages over TCP have a length of 16 bits.
const MAX_MESSAGE: usize = 2 + u16::MAX as usize;
/// UDP's header.
const UDP_HEADER: usize = 8;
/// Nothing is kept longer, whatever its TTL.
const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// HTTPS and SVCB (RFC 9460), whose questions may be about a port of a host.
const BINDINGS: [Kind; 2] = [Kind(64), Kind(65)];

/// An address to be put into a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Addition {
    pub(super) set: Arc<str>,
    pub(super) address: IpAddr,
    /// How long it may stay.
    pub(super) life: Duration,
}

/// One exchange of questions and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Exchange {
    client: SocketAddr,
    server: SocketAddr,
    protocol: Protocol,
}

/// Which of the two sides a packet is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Client,
    Server,
}

/// Open questions, and streams that are being read.
pub(super) struct Watch {
    approved: Approved,
    /// How much longer than its TTL an answer is used: clients outlive it.
    grace: Duration,
    questions: Generations<(Exchange, u16), Vec<Question>>,
    streams: Generations<(Exchange, Side), Stream>,
    pub(super) tally: Tally,
}

impl Watch {
    pub(super) fn new(approved: Approved, grace: Duration) -> Self {
        Self {
            approved,
            grace,
            questions: Generations::new(MAX_QUESTIONS),
            streams: Generations::new(MAX_STREAMS),
            tally: Tally::default(),
        }
    }

    /// What an IP packet, whole and in either direction, means for the sets.
    pub(super) fn packet(&mut self, bytes: &[u8]) -> Vec<Addition> {
        let packet = Packet::read(bytes).ok();
        let read = packet.as_ref().and_then(|packet| self.exchange(packet));
        let Some((packet, (exchange, side))) = packet.as_ref().zip(read) else {
            self.tally.malformed += 1;
            return Vec::new();
        };
        if exchange.protocol == Protocol::UDP {
            return match packet.payload.get(UDP_HEADER..) {
                Some(message) => self.message(exchange, side, message),
                None => Vec::new(),
            };
        }
        match Segment::read(packet.payload) {
            Some(segment) => self.segment(exchange, side, &segment),
            None => {
                self.tally.malformed += 1;
                Vec::new()
            }
        }
    }

    /// Who talks to whom; `None` if no approved resolver is among them.
    fn exchange(&self, packet: &Packet<'_>) -> Option<(Exchange, Side)> {
        let protocol = packet.protocol;
        let (from, to) = ports(packet.payload)?;
        let source = SocketAddr::new(packet.source, from);
        let destination = SocketAddr::new(packet.destination, to);
        let is_resolver = |end: SocketAddr| {
            end.port() == DNS_PORT && self.approved.is_resolver(end.ip(), protocol)
        };
        let (client, server, side) = if is_resolver(destination) {
            (source, destination, Side::Client)
        } else if is_resolver(source) {
            (destination, source, Side::Server)
        } else {
            return None;
        };
        let exchange = Exchange {
            client,
            server,
            protocol,
        };
        Some((exchange, side))
    }

    /// The messages that a segment makes whole.
    fn segment(&mut self, exchange: Exchange, side: Side, segment: &Segment<'_>) -> Vec<Addition> {
        let key = (exchange, side);
        if segment.syn {
            let first = Stream::new(segment.sequence.wrapping_add(1), MAX_MESSAGE);
            self.streams.remove(&key);
            self.tally.forgotten += self.streams.insert(key, first).len() as u64;
        }
        let mut messages = Vec::new();
        if !segment.payload.is_empty() {
            if self.streams.get_mut(&key).is_none() {
                // It was open before anybody looked.
                let first = Stream::new(segment.sequence, MAX_MESSAGE);
                self.tally.forgotten += self.streams.insert(key, first).len() as u64;
            }
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.push(segment.sequence, segment.payload);
                while let Some((message, length)) = dns::first_in_stream(stream.ready()) {
                    messages.push(message.to_vec());
                    stream.consume(length);
                }
            }
        }
        let all = messages.iter();
        let additions = all.flat_map(|message| self.message(exchange, side, message));
        let additions = additions.collect();
        if segment.rst || segment.fin {
            self.streams.remove(&key);
        }
        additions
    }

    fn message(&mut self, exchange: Exchange, side: Side, bytes: &[u8]) -> Vec<Addition> {
        let Some(message) = dns::read(bytes) else {
            self.tally.malformed += 1;
            return Vec::new();
        };
        self.tally.malformed += u64::from(message.undecodable);
        match (side, message.is_response) {
            (Side::Client, false) => {
                let key = (exchange, message.id);
                let forgotten = self.questions.insert(key, message.questions);
                self.tally.forgotten += forgotten.len() as u64;
                Vec::new()
            }
            (Side::Server, true) => self.answer(exchange, &message),
            (Side::Client, true) | (Side::Server, false) => {
                self.tally.unasked += 1;
                Vec::new()
            }
        }
    }

    fn answer(&mut self, exchange: Exchange, message: &Message) -> Vec<Addition> {
        let key = (exchange, message.id);
        let is_asked = self.questions.get_mut(&key).is_some_and(|asked| {
            let mut questions = message.questions.iter();
            !message.questions.is_empty() && questions.all(|one| asked.contains(one))
        });
        let Some(asked) = is_asked.then(|| self.questions.remove(&key)).flatten() else {
            self.tally.unasked += 1;
            return Vec::new();
        };
        self.tally.answers += 1;
        // The longest life wins where an answer says several.
        let mut found: BTreeMap<(Arc<str>, IpAddr), Duration> = BTreeMap::new();
        for question in &asked {
            for (place, life) in self.places(question, &message.answers) {
                let known = found.entry(place).or_default();
                *known = life.max(*known);
            }
        }
        let addition = |((set, address), life)| Addition { set, address, life };
        found.into_iter().map(addition).collect()
    }

    /// The sets and addresses that the answers to one question give, each with its life.
    fn places(
        &mut self,
        question: &Question,
        answers: &[Answer],
    ) -> Vec<((Arc<str>, IpAddr), Duration)> {
        let name = match BINDINGS.contains(&question.kind) {
            true => reached::host(&question.name),
            false => &question.name,
        };
        let mut refused = BTreeSet::new();
        let mut places = Vec::new();
        for (address, ttl) in reached::addresses(&question.name, answers) {
            let address = address.to_canonical();
            let sets = self.approved.sets_of(name, address);
            if !sets.is_empty() && !may_have_a_name(address) {
                refused.insert(address);
                continue;
            }
            let life = Duration::from_secs(u64::from(ttl)) + self.grace;
            let life = life.min(MAX_LIFE);
            places.extend(sets.into_iter().map(|set| ((set, address), life)));
        }
        self.tally.refused += refused.len() as u64;
        places
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::names::approved::tests::approved;

    const CLIENT: [u8; 4] = [192, 0, 2, 2];
    const RESOLVER: [u8; 4] = [198, 51, 100, 53];
    const GRACE: Duration = Duration::from_secs(300);

    fn watch() -> Watch {
        let names = [("api.example", "443/tcp"), ("*.wide.example", "443/tcp")];
        Watch::new(approved(&names), GRACE)
    }

    fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1);
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    fn segment(from_client: bool, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let (from, to) = match from_client {
            true => ((CLIENT, 4000), (RESOLVER, 53)),
            false => ((RESOLVER, 53), (CLIENT, 4000)),
        };
        let builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, sequence, u16::MAX);
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    fn wire_name(name: &str) -> Vec<u8> {
        let labels = name.split('.');
        let labels = labels.map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        [labels.collect::<Vec<_>>().concat(), vec![0]].concat()
    }

    fn question(name: &str) -> Vec<u8> {
        let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&head[..], &wire_name(name), &[0, 1, 0, 1]].concat()
    }

    /// An answer with one address, one minute long.
    fn answer(name: &str, address: [u8; 4]) -> Vec<u8> {
        let head = [0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
        [
            &head[..],
            &wire_name(name),
            &[0, 1, 0, 1],
            &record,
            &address,
        ]
        .concat()
    }

    fn asked(watch: &mut Watch, name: &str) {
        let packet = udp((CLIENT, 4000), (RESOLVER, 53), &question(name));
        assert_eq!(watch.packet(&packet), []);
    }

    fn answered(watch: &mut Watch, name: &str, address: [u8; 4]) -> Vec<Addition> {
        watch.packet(&udp((RESOLVER, 53), (CLIENT, 4000), &answer(name, address)))
    }

    #[test]
    fn an_answer_counts_once_and_only_for_what_was_asked() {
        let mut watch = watch();
        assert_eq!(answered(&mut watch, "api.example", [203, 0, 113, 1]), []);
        asked(&mut watch, "other.example");
        assert_eq!(answered(&mut watch, "api.example", [203, 0, 113, 1]), []);
        assert_eq!(watch.tally.unasked, 2);
        asked(&mut watch, "API.example");
        let added = answered(&mut watch, "api.Example", [203, 0, 113, 1]);
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].life, GRACE + Duration::from_secs(60));
        assert_eq!(answered(&mut watch, "api.example", [203, 0, 113, 2]), []);
        for (name, count) in [
            ("a.wide.example", 1),
            ("wide.example", 0),
            ("a.api.example", 0),
        ] {
            asked(&mut watch, name);
            assert_eq!(
                answered(&mut watch, name, [203, 0, 113, 1]).len(),
                count,
                "{name}"
            );
        }
    }

    #[test]
    fn no_name_leads_to_the_metadata_service_or_to_what_is_denied() {
        let mut watch = watch();
        for address in [
            [127, 0, 0, 1],
            [169, 254, 169, 254],
            [224, 0, 0, 1],
            [203, 0, 113, 66],
        ] {
            asked(&mut watch, "api.example");
            assert_eq!(
                answered(&mut watch, "api.example", address),
                [],
                "{address:?}"
            );
        }
        // What is denied is no mistake of the name's.
        assert_eq!(watch.tally.refused, 3);
    }

    #[test]
    fn messages_over_tcp_are_put_together() {
        let mut watch = watch();
        let framed =
            |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        let asks = framed(question("api.example"));
        assert_eq!(watch.packet(&segment(true, 100, &asks)), []);
        let says = framed(answer("api.example", [203, 0, 113, 1]));
        let (head, tail) = says.split_at(9);
        assert_eq!(watch.packet(&segment(false, 500, head)), []);
        assert_eq!(watch.packet(&segment(false, 509, tail)).len(), 1);
    }

    #[test]
    fn another_s_answer_is_none() {
        let mut watch = watch();
        asked(&mut watch, "api.example");
        let message = answer("api.example", [203, 0, 113, 1]);
        for from in [([198, 51, 100, 54], 53), (RESOLVER, 54), (CLIENT, 53)] {
            assert_eq!(
                watch.packet(&udp(from, (CLIENT, 4000), &message)),
                [],
                "{from:?}"
            );
        }
        assert_eq!(
            answered(&mut watch, "api.example", [203, 0, 113, 1]).len(),
            1
        );
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(
            noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0..80usize, byte: u8,
        ) {
            let mut watch = watch();
            watch.packet(&noise);
            watch.packet(&udp((CLIENT, 4000), (RESOLVER, 53), &noise));
            watch.packet(&udp((RESOLVER, 53), (CLIENT, 4000), &noise));
            watch.packet(&segment(false, 1, &noise));
            asked(&mut watch, "api.example");
            let mut packet = udp(
                (RESOLVER, 53),
                (CLIENT, 4000),
                &answer("api.example", [203, 0, 113, 1]),
            );
            let at = at % packet.len();
            packet[at] = byte;
            prop_assert!(watch.packet(&packet).len() <= 1);
        }
    }
}
