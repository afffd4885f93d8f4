//! `Table`: packets into conversations, conversations into flows and DNS exchanges.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    decode::dns::{self, Transport},
    import::capture::{
        conversation::{Conversation, Key, Listening},
        direction,
        packet::{self, Icmp, Packet, Segment},
        tally::Tally,
    },
    record::{Dns, Flow, Outcome, Protocol},
    wire::{
        answers::{Answers, Exchange, Speaker},
        generations::Generations,
    },
};

/// Conversations followed at a time: up to twice as many.
const MAX_CONVERSATIONS: usize = 32_768;
const UDP_HEADER: usize = 8;

/// What there is to record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    Flow(Box<Flow>),
    Dns(Box<Dns>),
}

#[derive(Debug)]
pub(super) struct Table {
    /// Hashed with a seed of this process's own, so that no capture can be made to collide. Boxed:
    /// tables that grow move what is in them.
    conversations: Generations<Key, Box<Conversation>, foldhash::fast::RandomState>,
    pub(super) names: Answers<IpAddr, SocketAddr>,
    pub(super) tally: Tally,
    local: Vec<IpNet>,
    /// Taken out by the reader after each packet.
    pub(super) news: Vec<News>,
    /// Conversations that others pushed out; if they go on, they count again.
    pub(super) forgotten: u64,
    /// First bytes and DNS over TCP that found no room.
    pub(super) refused_bytes: u64,
    /// What clients that are not local began.
    pub(super) foreign: u64,
}

impl Table {
    pub(super) fn new(local: Vec<IpNet>) -> Self {
        Self {
            conversations: Generations::new(MAX_CONVERSATIONS),
            names: Answers::default(),
            tally: Tally::default(),
            local,
            news: Vec::new(),
            forgotten: 0,
            refused_bytes: 0,
            foreign: 0,
        }
    }

    /// Takes in a whole packet, or says why it cannot be used.
    pub(super) fn packet(&mut self, time: Timestamp, packet: &Packet<'_>) -> Result<(), String> {
        let cut = || format!("the {} header is cut short", packet.protocol);
        match packet.protocol {
            Protocol::TCP => self.tcp(time, packet).ok_or_else(cut),
            Protocol::UDP => self.udp(time, packet).ok_or_else(cut),
            Protocol::ICMP | Protocol::ICMPV6 => self.icmp(time, packet).ok_or_else(cut),
            protocol if protocol.has_ports() => self.ported(time, packet).ok_or_else(cut),
            _ => {
                self.portless(time, packet);
                Ok(())
            }
        }
    }

    /// Ends every conversation.
    pub(super) fn finish(&mut self) {
        let open: Vec<(Key, Box<Conversation>)> = self.conversations.drain().collect();
        for (key, conversation) in open {
            self.over(&key, *conversation);
        }
        let flows = self.tally.take();
        self.tell(flows);
        let unanswered = self.names.give_up(Timestamp::MAX);
        self.tell_dns(unanswered);
    }

    fn tcp(&mut self, time: Timestamp, packet: &Packet<'_>) -> Option<()> {
        let segment = Segment::read(packet.payload)?;
        let (source, destination) = ends(packet)?;
        let (key, source_is_low) = Key::of(Protocol::TCP, source, destination);
        self.replace_if_new(&key, source_is_low, &segment);
        let conversation = match self.conversations.get_mut(&key) {
            Some(conversation) => conversation,
            None => {
                let opened = direction::opened(&segment, source, destination, &self.local);
                self.begin_tcp(key, opened == source_is_low, time, &segment);
                self.conversations.get_mut(&key)?
            }
        };
        let from_client = source_is_low == conversation.client_is_low;
        let length = packet.length().saturating_sub(segment.header as u64);
        note_bytes(conversation, from_client, time, length);
        conversation.is_closing |= segment.fin || segment.rst;
        if from_client {
            if segment.syn {
                conversation.syns = conversation.syns.saturating_add(1);
                conversation.first_sequence.get_or_insert(segment.sequence);
            }
        } else if segment.rst {
            conversation.failed(Outcome::Refused);
        } else {
            conversation.answered();
        }
        if segment.payload.is_empty() {
            return Some(());
        }
        // Data on a SYN (TCP Fast Open) is numbered after it.
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        if matches!(conversation.listening, Listening::Dns(_)) {
            let messages = conversation.dns_bytes(from_client, sequence, segment.payload);
            let ends = conversation.ends(&key);
            self.tcp_messages(ends, from_client, time, &messages);
        } else if from_client {
            self.refused_bytes += conversation.client_bytes(sequence, segment.payload);
        }
        Some(())
    }

    /// A SYN that is not the one that a conversation began with begins another on the same ports.
    fn replace_if_new(&mut self, key: &Key, source_is_low: bool, segment: &Segment<'_>) {
        if !segment.syn || segment.ack {
            return;
        }
        let is_over = self.conversations.get_mut(key).is_some_and(|known| {
            let is_client = known.client_is_low == source_is_low;
            let is_repeated = is_client && known.first_sequence == Some(segment.sequence);
            !is_repeated && (is_client || known.is_closing)
        });
        if is_over && let Some(conversation) = self.conversations.remove(key) {
            self.over(key, *conversation);
        }
    }

    fn begin_tcp(&mut self, key: Key, client_is_low: bool, time: Timestamp, segment: &Segment<'_>) {
        let server = if client_is_low { key.high() } else { key.low() };
        let listening = if dns::dialect(server.port()) == Some(dns::Dialect::Dns) {
            Listening::Dns(Box::default())
        } else {
            Listening::First(None)
        };
        let mut conversation = Conversation::new(client_is_low, time, listening);
        conversation.count = 1;
        // In the midst of a connection: there was an answer before.
        if !segment.syn && !segment.rst {
            conversation.answered();
        }
        self.begin(key, conversation);
    }

    /// Whole messages of DNS.
    fn tcp_messages(
        &mut self,
        (client, server): (SocketAddr, SocketAddr),
        from_client: bool,
        time: Timestamp,
        messages: &[Vec<u8>],
    ) {
        if !self.is_ours(client) {
            return;
        }
        let exchange = Exchange {
            socket: client,
            server,
            transport: Transport::Tcp,
        };
        for message in messages {
            let speaker = speaker(from_client);
            let news = self
                .names
                .message(client.ip(), exchange, speaker, time, message);
            self.tell_dns(news);
        }
    }

    fn udp(&mut self, time: Timestamp, packet: &Packet<'_>) -> Option<()> {
        let (source, destination) = ends(packet)?;
        let data = packet.payload.get(UDP_HEADER..).unwrap_or_default();
        let (key, source_is_low) = Key::of(Protocol::UDP, source, destination);
        let conversation = match self.conversations.get_mut(&key) {
            Some(conversation) => conversation,
            None => {
                let is_client = direction::spoke_first(source, destination);
                let mut conversation =
                    Conversation::new(is_client == source_is_low, time, Listening::Datagrams(0));
                conversation.count = 1;
                self.begin(key, conversation);
                self.conversations.get_mut(&key)?
            }
        };
        let from_client = source_is_low == conversation.client_is_low;
        let length = packet.length().saturating_sub(UDP_HEADER as u64);
        note_bytes(conversation, from_client, time, length);
        if !from_client {
            conversation.answered();
        }
        let (client, server) = conversation.ends(&key);
        if dns::dialect(server.port()).is_some() {
            let exchange = Exchange {
                socket: client,
                server,
                transport: Transport::Udp,
            };
            if self.is_ours(client) {
                let speaker = speaker(from_client);
                let news = self
                    .names
                    .message(client.ip(), exchange, speaker, time, data);
                self.tell_dns(news);
            }
        } else if from_client {
            conversation.client_datagram(data);
        }
        Some(())
    }

    /// SCTP, DCCP, UDP-Lite: one conversation for each pair of ports.
    fn ported(&mut self, time: Timestamp, packet: &Packet<'_>) -> Option<()> {
        let (source, destination) = ends(packet)?;
        let is_client = direction::spoke_first(source, destination);
        self.simple(time, packet, (source, destination), is_client);
        Some(())
    }

    /// Protocols without ports: whoever is heard first is the client, and its packets count.
    fn portless(&mut self, time: Timestamp, packet: &Packet<'_>) {
        let ends = (
            SocketAddr::new(packet.source, 0),
            SocketAddr::new(packet.destination, 0),
        );
        self.simple(time, packet, ends, true);
    }

    fn simple(
        &mut self,
        time: Timestamp,
        packet: &Packet<'_>,
        (source, destination): (SocketAddr, SocketAddr),
        is_client: bool,
    ) {
        let (key, source_is_low) = Key::of(packet.protocol, source, destination);
        if self.conversations.get_mut(&key).is_none() {
            let client_is_low = is_client == source_is_low;
            self.begin(key, Conversation::new(client_is_low, time, Listening::Deaf));
        }
        let Some(conversation) = self.conversations.get_mut(&key) else {
            return;
        };
        let from_client = source_is_low == conversation.client_is_low;
        note_bytes(conversation, from_client, time, packet.length());
        if packet.protocol.has_ports() {
            conversation.count = 1;
        } else {
            conversation.count += u64::from(from_client);
        }
        if !from_client {
            conversation.answered();
        }
    }

    fn icmp(&mut self, time: Timestamp, packet: &Packet<'_>) -> Option<()> {
        match packet::icmp(packet.protocol, packet.payload)? {
            Icmp::Query => {
                let ends = icmp_ends(packet.source, packet.destination);
                self.simple(time, packet, ends, true);
            }
            Icmp::Answer => {
                let (client, server) = icmp_ends(packet.destination, packet.source);
                let (key, _) = Key::of(packet.protocol, client, server);
                if let Some(conversation) = self.conversations.get_mut(&key) {
                    note_bytes(conversation, false, time, packet.length());
                    conversation.answered();
                }
            }
            Icmp::Unreachable(quote) => self.unreachable(quote),
            Icmp::Housekeeping => {}
        }
        Some(())
    }

    /// What is quoted may be anything: only a conversation that is known can fail.
    fn unreachable(&mut self, quote: &[u8]) {
        let Some((protocol, mut source, mut destination)) = packet::quoted(quote) else {
            return;
        };
        if matches!(protocol, Protocol::ICMP | Protocol::ICMPV6) {
            (source, destination) = icmp_ends(source.ip(), destination.ip());
        }
        let (key, source_is_low) = Key::of(protocol, source, destination);
        if let Some(conversation) = self.conversations.get_mut(&key)
            && conversation.client_is_low == source_is_low
        {
            conversation.failed(Outcome::Unreachable);
        }
    }

    fn begin(&mut self, key: Key, mut conversation: Conversation) {
        let (client, server) = conversation.ends(&key);
        let begun = (conversation.first, conversation.first);
        conversation.resolved = self.names.of(client.ip(), server.ip(), begun);
        for (key, forgotten) in self.conversations.insert(key, Box::new(conversation)) {
            self.forgotten += u64::from(!forgotten.is_closing);
            self.over(&key, *forgotten);
        }
    }

    fn over(&mut self, key: &Key, mut conversation: Conversation) {
        conversation.hear_out();
        let (client, server) = conversation.ends(key);
        if !self.is_ours(client) {
            self.foreign += conversation.count;
            return;
        }
        if conversation.count > 0 {
            let flows = self.tally.add(key.protocol, server, &conversation);
            self.tell(flows);
        }
    }

    /// Whether what a client does is the workload's doing.
    fn is_ours(&self, client: SocketAddr) -> bool {
        self.local.is_empty() || direction::is_in(&self.local, client.ip())
    }

    fn tell(&mut self, flows: Vec<Flow>) {
        let flows = flows.into_iter().map(Box::new);
        self.news.extend(flows.map(News::Flow));
    }

    fn tell_dns(&mut self, exchanges: Vec<(IpAddr, Dns)>) {
        let exchanges = exchanges.into_iter().map(|(_, dns)| Box::new(dns));
        self.news.extend(exchanges.map(News::Dns));
    }
}

fn speaker(from_client: bool) -> Speaker {
    match from_client {
        true => Speaker::Client,
        false => Speaker::Server,
    }
}

fn note_bytes(conversation: &mut Conversation, from_client: bool, time: Timestamp, length: u64) {
    conversation.first = conversation.first.min(time);
    conversation.last = conversation.last.max(time);
    let bytes = if from_client {
        &mut conversation.sent
    } else {
        &mut conversation.received
    };
    *bytes = bytes.saturating_add(length);
}

fn ends(packet: &Packet<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to) = packet::ports(packet.payload)?;
    Some((
        SocketAddr::new(packet.source, from),
        SocketAddr::new(packet.destination, to),
    ))
}

/// Two hosts may ask each other: the port that ICMP does not have tells who asks.
fn icmp_ends(client: IpAddr, server: IpAddr) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(client, 0), SocketAddr::new(server, 1))
}
