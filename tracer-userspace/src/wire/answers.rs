//! `Answers`: which names resolved to which address, for each client, dated.
//!
//! Only answers that were asked for count: same client, same server, same number, same question.

use std::{
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    decode::{
        dns::{self, Answer, Data, Message, Question, Transport},
        reached::{addresses, host},
    },
    record::{Dns, DnsAnswer, DnsQuestion, DnsTransport},
    wire::generations::Generations,
};

/// Questions that may wait for their answer, and addresses with names.
const MAX_PENDING: usize = 16_384;
const MAX_ADDRESSES: usize = 65_536;
/// Names that one address has for one client.
const MAX_NAMES: usize = 64;
/// How much longer than its TTL an answer is used: clients round up.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// One exchange of questions and answers, by whatever tells the client's sockets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exchange<S> {
    pub socket: S,
    pub server: SocketAddr,
    pub transport: Transport,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Client,
    Server,
    /// A server that is the client's own doing: it may answer what it likes, and is not believed.
    OwnServer,
}

#[derive(Debug)]
struct Pending<C> {
    client: C,
    questions: Vec<Question>,
    asked: Timestamp,
}

/// A name that an address had from one time to another.
#[derive(Debug)]
struct Fact {
    name: Arc<str>,
    from: Timestamp,
    until: Timestamp,
}

/// The names under which a client may have found an address, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By answers that held.
    pub valid: Vec<Arc<str>>,
    /// By answers that had run out. Clients may hold on to them, but that is their word alone.
    pub outlived: Vec<Arc<str>>,
    /// Who was told in the client's place: the unit of a resolver that is asked by a Unix socket.
    pub via: Option<Arc<str>>,
}

impl Resolved {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.valid.is_empty() && self.outlived.is_empty()
    }
}

/// Questions that wait, and what answers have told. `C` is whom answers are for, `S` tells sockets
/// apart.
#[derive(Debug)]
pub struct Answers<C, S> {
    pending: Generations<(Exchange<S>, u16), Pending<C>>,
    /// By client and address.
    facts: Generations<(C, IpAddr), Vec<Fact>>,
    /// Answers that nobody asked for.
    pub unasked: u64,
    /// Messages that could not be read, and records in those that could.
    pub undecodable: u64,
    /// Names that found no room, and those that had to make room while they held.
    pub refused: u64,
}

impl<C: Copy + Eq + Hash, S: Copy + Eq + Hash> Default for Answers<C, S> {
    fn default() -> Self {
        Self {
            pending: Generations::new(MAX_PENDING),
            facts: Generations::new(MAX_ADDRESSES),
            unasked: 0,
            undecodable: 0,
            refused: 0,
        }
    }
}

impl<C: Copy + Eq + Hash, S: Copy + Eq + Hash> Answers<C, S> {
    /// Takes in a message of either side; what is to be recorded comes back, and of whom.
    pub fn message(
        &mut self,
        client: C,
        exchange: Exchange<S>,
        speaker: Speaker,
        time: Timestamp,
        bytes: &[u8],
    ) -> Vec<(C, Dns)> {
        let Some(message) = dns::read(bytes) else {
            self.undecodable += 1;
            return Vec::new();
        };
        self.undecodable += u64::from(message.undecodable);
        match (speaker, message.is_response) {
            (Speaker::Client, false) => self.question(client, exchange, time, message),
            (Speaker::Server, true) => self.answer(exchange, time, &message, true),
            (Speaker::OwnServer, true) => self.answer(exchange, time, &message, false),
            // A server that asks, a client that answers.
            (Speaker::Client, true) | (Speaker::Server | Speaker::OwnServer, false) => {
                self.unasked += 1;
                Vec::new()
            }
        }
    }

    /// The names under which `client` may have found `address` at some time between the two.
    pub fn of(
        &mut self,
        client: C,
        address: IpAddr,
        (first, last): (Timestamp, Timestamp),
    ) -> Resolved {
        let mut resolved = Resolved::default();
        let Some(facts) = self.facts.get_mut(&(client, address)) else {
            return resolved;
        };
        for fact in facts.iter().filter(|fact| fact.from <= last) {
            let names = match first <= fact.until {
                true => &mut resolved.valid,
                false => &mut resolved.outlived,
            };
            names.push(Arc::clone(&fact.name));
        }
        resolved.valid.sort_unstable();
        resolved.outlived.sort_unstable();
        resolved
    }

    /// What was asked before `time` and not answered by now.
    pub fn give_up(&mut self, time: Timestamp) -> Vec<(C, Dns)> {
        let unanswered = self.pending.take_if(|pending| pending.asked < time);
        unanswered
            .into_iter()
            .flat_map(|((exchange, _), pending)| unanswered_records(&exchange, pending))
            .collect()
    }

    fn question(
        &mut self,
        client: C,
        exchange: Exchange<S>,
        time: Timestamp,
        message: Message,
    ) -> Vec<(C, Dns)> {
        let pending = Pending {
            client,
            questions: message.questions,
            asked: time,
        };
        // Whoever answers a question to a group does so from an address of its own.
        if exchange.server.ip().is_multicast() {
            return unanswered_records(&exchange, pending);
        }
        let key = (exchange, message.id);
        if let Some(known) = self.pending.get_mut(&key)
            && known.questions == pending.questions
        {
            return Vec::new();
        }
        let replaced = self.pending.remove(&key);
        let replaced = replaced.map(|pending| (key, pending));
        let forgotten = self.pending.insert(key, pending);
        let unanswered = forgotten.into_iter().chain(replaced);
        unanswered
            .flat_map(|((exchange, _), pending)| unanswered_records(&exchange, pending))
            .collect()
    }

    fn answer(
        &mut self,
        exchange: Exchange<S>,
        time: Timestamp,
        message: &Message,
        is_believed: bool,
    ) -> Vec<(C, Dns)> {
        let key = (exchange, message.id);
        let is_asked = self.pending.get_mut(&key).is_some_and(|pending| {
            message
                .questions
                .iter()
                .all(|one| pending.questions.contains(one))
        });
        let pending = is_asked.then(|| self.pending.remove(&key)).flatten();
        let Some(pending) = pending else {
            self.unasked += 1;
            return Vec::new();
        };
        let client = pending.client;
        if is_believed {
            for question in &pending.questions {
                self.learn(client, question, &message.answers, time);
            }
        }
        let answered = |(client, dns): (C, Dns)| {
            let dns = Dns {
                answers: message.answers.iter().map(recorded).collect(),
                rcode: Some(dns::rcode_name(message.rcode)),
                truncated: message.is_truncated,
                own_server: !is_believed,
                ..dns
            };
            (client, dns)
        };
        let unanswered = unanswered_records(&exchange, pending).into_iter();
        unanswered.map(answered).collect()
    }

    fn learn(&mut self, client: C, question: &Question, answers: &[Answer], time: Timestamp) {
        let addresses = addresses(&question.name, answers);
        if addresses.is_empty() {
            return;
        }
        let name: Arc<str> = Arc::from(host(&question.name));
        for (address, ttl) in addresses {
            let life = SignedDuration::from_secs(i64::from(ttl)) + GRACE;
            let fact = Fact {
                name: Arc::clone(&name),
                from: time,
                until: time.saturating_add(life).unwrap_or(Timestamp::MAX),
            };
            match self.facts.get_mut(&(client, address)) {
                Some(facts) => self.refused += u64::from(!add(facts, fact)),
                None => {
                    let forgotten = self.facts.insert((client, address), vec![fact]);
                    let facts = forgotten.into_values().flatten();
                    self.refused += facts.filter(|fact| fact.until >= time).count() as u64;
                }
            }
        }
    }
}

/// False if there is no room.
fn add(facts: &mut Vec<Fact>, fact: Fact) -> bool {
    if let Some(known) = facts.iter_mut().find(|known| known.name == fact.name) {
        if known.until < fact.from {
            known.from = fact.from;
        }
        known.until = known.until.max(fact.until);
        return true;
    }
    if facts.len() >= MAX_NAMES {
        facts.retain(|known| known.until >= fact.from);
    }
    let has_room = facts.len() < MAX_NAMES;
    if has_room {
        facts.push(fact);
    }
    has_room
}

fn unanswered_records<C: Copy, S>(exchange: &Exchange<S>, pending: Pending<C>) -> Vec<(C, Dns)> {
    let server = exchange.server;
    let transport = match (exchange.transport, dns::dialect(server.port())) {
        (_, Some(dns::Dialect::Mdns)) => DnsTransport::Mdns,
        (_, Some(dns::Dialect::Llmnr)) => DnsTransport::Llmnr,
        (Transport::Tcp, Some(dns::Dialect::Dns) | None) => DnsTransport::Tcp,
        (Transport::Udp, Some(dns::Dialect::Dns) | None) => DnsTransport::Udp,
    };
    let questions = pending.questions.into_iter();
    let unanswered = questions.map(|question| Dns {
        question: DnsQuestion {
            kind: question.kind.to_string(),
            name: question.name,
        },
        answers: Vec::new(),
        rcode: None,
        truncated: false,
        own_server: false,
        server: server.ip(),
        server_port: server.port(),
        transport,
        asked: pending.asked,
    });
    unanswered.map(|dns| (pending.client, dns)).collect()
}

fn recorded(answer: &Answer) -> DnsAnswer {
    let (addresses, target) = match &answer.data {
        Data::Address(address) => (vec![*address], None),
        Data::Alias(target) | Data::Pointer(target) | Data::Service { target, .. } => {
            (Vec::new(), Some(target.clone()))
        }
        Data::Hints {
            target, addresses, ..
        } => (addresses.clone(), Some(target.clone())),
        Data::Other => (Vec::new(), None),
    };
    DnsAnswer {
        name: answer.name.clone(),
        kind: answer.kind.to_string(),
        ttl: answer.ttl,
        addresses,
        target,
    }
}
