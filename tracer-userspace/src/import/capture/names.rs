//! `Names`: which names resolved to which address, for each client, dated.
//!
//! Only answers that were asked for count: same client, same server, same number, same question.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    decode::{
        dns::{self, Answer, Data, Message, Question},
        reached::{addresses, host},
    },
    import::capture::generations::Generations,
    record::{Dns, DnsAnswer, DnsQuestion, DnsTransport},
};

/// Questions that may wait for their answer, and addresses with names.
const MAX_PENDING: usize = 16_384;
const MAX_ADDRESSES: usize = 65_536;
/// Names that one address has for one client.
const MAX_NAMES: usize = 64;
/// How much longer than its TTL an answer is used: clients round up.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// One exchange of questions and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug)]
struct Pending {
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

#[derive(Debug)]
pub(super) struct Names {
    pending: Generations<(Exchange, u16), Pending>,
    /// By client and address.
    facts: Generations<(IpAddr, IpAddr), Vec<Fact>>,
    /// Answers that nobody asked for.
    pub(super) unasked: u64,
    /// Messages that could not be read, and records in those that could.
    pub(super) undecodable: u64,
    /// Names that found no room.
    pub(super) refused: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            pending: Generations::new(MAX_PENDING),
            facts: Generations::new(MAX_ADDRESSES),
            unasked: 0,
            undecodable: 0,
            refused: 0,
        }
    }

    /// Takes in a message of either side; what is to be recorded comes back.
    pub(super) fn message(
        &mut self,
        exchange: Exchange,
        from_client: bool,
        time: Timestamp,
        bytes: &[u8],
    ) -> Vec<Dns> {
        let Some(message) = dns::read(bytes) else {
            self.undecodable += 1;
            return Vec::new();
        };
        self.undecodable += u64::from(message.undecodable);
        match (from_client, message.is_response) {
            (true, false) => self.question(exchange, time, message),
            (false, true) => self.answer(exchange, time, &message),
            // A server that asks, a client that answers.
            (true, true) | (false, false) => {
                self.unasked += 1;
                Vec::new()
            }
        }
    }

    /// The names under which `client` may have found `address` at `time`, sorted.
    pub(super) fn of(&mut self, client: IpAddr, address: IpAddr, time: Timestamp) -> Vec<Arc<str>> {
        let Some(facts) = self.facts.get_mut(&(client, address)) else {
            return Vec::new();
        };
        let valid = facts
            .iter()
            .filter(|fact| fact.from <= time && time <= fact.until);
        let mut names: Vec<Arc<str>> = valid.map(|fact| Arc::clone(&fact.name)).collect();
        names.sort_unstable();
        names
    }

    /// What was asked and never answered.
    pub(super) fn give_up(&mut self) -> Vec<Dns> {
        let unanswered = self.pending.drain();
        unanswered
            .flat_map(|((exchange, _), pending)| unanswered_records(exchange, pending))
            .collect()
    }

    fn question(&mut self, exchange: Exchange, time: Timestamp, message: Message) -> Vec<Dns> {
        let pending = Pending {
            questions: message.questions,
            asked: time,
        };
        // Whoever answers a question to a group does so from an address of its own.
        if exchange.server.ip().is_multicast() {
            return unanswered_records(exchange, pending);
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
            .flat_map(|((exchange, _), pending)| unanswered_records(exchange, pending))
            .collect()
    }

    fn answer(&mut self, exchange: Exchange, time: Timestamp, message: &Message) -> Vec<Dns> {
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
        for question in &pending.questions {
            self.learn(exchange.client.ip(), question, &message.answers, time);
        }
        let asked = pending.asked;
        let questions = pending.questions.into_iter();
        questions
            .map(|question| Dns {
                answers: message.answers.iter().map(recorded).collect(),
                rcode: Some(dns::rcode_name(message.rcode)),
                truncated: message.is_truncated,
                ..unanswered(exchange, question, asked)
            })
            .collect()
    }

    fn learn(&mut self, client: IpAddr, question: &Question, answers: &[Answer], time: Timestamp) {
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
                    self.facts.insert((client, address), vec![fact]);
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
    facts.retain(|known| known.until >= fact.from);
    let has_room = facts.len() < MAX_NAMES;
    if has_room {
        facts.push(fact);
    }
    has_room
}

fn unanswered_records(exchange: Exchange, pending: Pending) -> Vec<Dns> {
    let questions = pending.questions.into_iter();
    questions
        .map(|question| unanswered(exchange, question, pending.asked))
        .collect()
}

fn unanswered(exchange: Exchange, question: Question, asked: Timestamp) -> Dns {
    let transport = match (exchange.transport, dns::dialect(exchange.server.port())) {
        (_, Some(dns::Dialect::Mdns)) => DnsTransport::Mdns,
        (_, Some(dns::Dialect::Llmnr)) => DnsTransport::Llmnr,
        (Transport::Tcp, Some(dns::Dialect::Dns) | None) => DnsTransport::Tcp,
        (Transport::Udp, Some(dns::Dialect::Dns) | None) => DnsTransport::Udp,
    };
    Dns {
        question: DnsQuestion {
            kind: question.kind.to_string(),
            name: question.name,
        },
        answers: Vec::new(),
        rcode: None,
        truncated: false,
        server: exchange.server.ip(),
        server_port: exchange.server.port(),
        transport,
        asked,
    }
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
