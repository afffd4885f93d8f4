//! Counts per flow since they were last written. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tracer_common::{
    flow::{FlowKey, FlowValue, channel},
    socket::Answer,
    translation::Translation,
};

use super::{
    answers::{Answers, Heard, answer_from, are_heard},
    outcomes::{Attempts, Counts, Lifetimes},
};
use crate::{
    inventory::open::SoFar,
    record::{Channel, Name, Tool},
};

/// Places to which one flow was rewritten that are kept until they are told.
const TRANSLATIONS: usize = 64;

/// Translations that may wait for their flow: as many as the kernel keeps.
const EARLY: usize = 8192;

/// Flows that are kept for what becomes of connections of which all else is told. Of more than
/// these, what comes later is not told.
const MAX_WAITING: usize = 16_384;

/// IANA's number of TCP, and `IPPROTO_MPTCP`.
const FOLLOWED: [u16; 2] = [6, 262];

/// Flows that have something to tell, and a few that had.
#[derive(Debug, Default)]
pub struct Table {
    /// Nobody tells what becomes of connections.
    is_blind: bool,
    /// Nobody tells whether datagrams are answered.
    is_deaf: bool,
    answers: Answers,
    /// cgroups that are gone: of their connections nothing more is to be heard.
    gone: HashSet<u64>,
    /// Outcomes of flows that are not known any more.
    unmatched: u64,
    tallies: HashMap<FlowKey, Tally>,
    /// Translations for which there was no room, since they were last asked for.
    turned_away: u64,
    /// Those of the last sweep, and of the one before, whose flow is not there yet.
    early: Vec<Translation>,
    late: Vec<Translation>,
}

/// What is known of one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Counts that no record has told yet.
    count: u64,
    /// Datagram connects and datagram connections that sent, since this entry was made.
    connects: u64,
    sent: u64,
    /// How many connects were told as probes.
    probes: u64,
    /// Of the attempts that no record has told, those that were denied.
    blocked: u64,
    /// And of the sockets that were open already, those that were established.
    established: u64,
    /// Of connections that are followed.
    #[serde(default)]
    attempts: Attempts,
    /// Of datagrams.
    #[serde(default)]
    heard: Heard,
    /// What the last record said, for those that only tell what became of it.
    #[serde(default)]
    pub names: Vec<Name>,
    #[serde(default)]
    pub exe: Option<String>,
    #[serde(default)]
    pub tool: Option<Tool>,
    /// What left, where not always what was asked for, since it was last told.
    left: BTreeSet<Left>,
    first_ns: u64,
    last_ns: u64,
    /// `last_ns` of the last record.
    told_ns: u64,
    /// By which interface packets left; 0 if unknown.
    #[serde(default)]
    pub interface: u32,
    /// The first caller's.
    pub tid: u32,
    pub uid: u32,
    pub parent_pid: u32,
    pub comm: [u8; 16],
}

/// Where packets went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Left {
    /// Rewritten by the host, after the packet had left its network namespace.
    #[serde(default)]
    pub by_host: bool,
    /// Network byte order; IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    pub port: u16,
}

/// What one record is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub channel: Channel,
    pub count: u64,
    /// Of `count`, or of earlier records' where it is waited for.
    pub outcomes: Counts,
    pub lifetimes: Lifetimes,
    /// Of datagrams, where that is heard.
    pub answered: Option<bool>,
    /// What left in place of what was asked for.
    pub translated: Option<Left>,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Table {
    /// An empty one. `is_blind`: nobody tells what becomes of connections; `is_deaf`: nor whether
    /// datagrams are answered.
    #[must_use]
    pub fn new(is_blind: bool, is_deaf: bool) -> Self {
        Self {
            is_blind,
            is_deaf,
            ..Self::default()
        }
    }

    /// Adds the counts of one sweep.
    pub fn absorb(&mut self, key: &FlowKey, value: &FlowValue) {
        let is_followed = self.is_followed(key);
        if value.count == 0 && value.connects == 0 && !self.tallies.contains_key(key) {
            // Who it was is not known any more.
            self.unmatched += 1;
            return;
        }
        let tally = self
            .tallies
            .entry(*key)
            .or_insert_with(|| Tally::new(value));
        tally.count += value.count;
        tally.connects += value.connects;
        tally.sent += value.count;
        if value.interface != 0 {
            tally.interface = value.interface;
        }
        if value.count > 0 {
            tally.heard.begin();
        }
        if is_followed {
            let last_ns = value.last_ns.max(value.first_ns);
            if value.count > 0 {
                tally.attempts.begin(value.count, value.blocked, last_ns);
            }
            tally.attempts.learn(&value.outcomes);
        } else {
            tally.blocked += value.blocked;
        }
        tally.first_ns = tally.first_ns.min(value.first_ns);
        // The coarse clock of `last_ns` may lag behind the exact one of `first_ns`.
        tally.last_ns = tally.last_ns.max(value.last_ns).max(value.first_ns);
    }

    /// Whether it will be told what becomes of the flow's attempts.
    fn is_followed(&self, key: &FlowKey) -> bool {
        !self.is_blind && key.channel == channel::CONNECT && FOLLOWED.contains(&key.protocol)
    }

    /// A cgroup is gone, and its sockets with it.
    pub fn cgroup_gone(&mut self, cgroup_id: u64) {
        self.gone.insert(cgroup_id);
    }

    /// Waits no longer for outcomes that will not come; for none where it `is_end`. Connections that
    /// are open then may be over under the next daemon.
    pub fn give_up(&mut self, now_ns: u64, is_end: bool) {
        let gone = std::mem::take(&mut self.gone);
        for (key, tally) in &mut self.tallies {
            let is_gone = gone.contains(&key.cgroup_id);
            tally.attempts.give_up(now_ns, is_end || is_gone);
            if is_gone {
                tally.attempts.forget_open();
            }
        }
    }

    /// Outcomes of flows that were not known any more, since the last call.
    pub fn take_unmatched(&mut self) -> u64 {
        std::mem::take(&mut self.unmatched)
    }

    /// Adds a socket that was open before the hooks were there.
    pub fn absorb_open(&mut self, key: &FlowKey, value: &FlowValue, is_established: bool) {
        self.absorb(key, value);
        if let Some(tally) = self.tallies.get_mut(key) {
            tally.established += u64::from(is_established);
        }
    }

    /// Notes where packets of a flow went.
    /// The counts of a flow that began after the tables were exchanged come with the next sweep.
    pub fn translate(&mut self, translation: &Translation) {
        if self.tallies.contains_key(&translation.key) {
            self.place(translation);
        } else if self.early.len() < EARLY {
            self.early.push(*translation);
        } else {
            self.turned_away += 1;
        }
    }

    /// A sweep is complete: what was early for the one before has its flow by now.
    pub fn swept(&mut self) {
        let late = std::mem::replace(&mut self.late, std::mem::take(&mut self.early));
        late.iter().for_each(|translation| self.place(translation));
        self.hear();
    }

    /// What was said by now on connections that are open, whose attempts were taken in.
    pub fn said_so_far(&mut self, said: &HashMap<FlowKey, SoFar>) {
        for (key, sum) in said {
            if let Some(tally) = self.tallies.get_mut(key) {
                let attempts = &mut tally.attempts;
                attempts.look(sum.connections, sum.sent, sum.received);
            }
        }
    }

    /// Notes from where datagrams have come back.
    pub fn answer(&mut self, answers: &[Answer]) {
        self.answers.add(answers);
    }

    /// Finds whose datagrams were answered.
    fn hear(&mut self) {
        let Self {
            answers, tallies, ..
        } = self;
        answers.settle(|all| {
            for (key, tally) in tallies.iter_mut().filter(|(key, _)| are_heard(key)) {
                let left = tally.left.iter().map(|left| (left.address, left.port));
                for (address, port) in left.chain([(key.address, key.port)]) {
                    if let Some(is_found) = all.get_mut(&answer_from(key, address, port)) {
                        *is_found = true;
                        tally.heard.learn();
                    }
                }
            }
        });
    }

    fn place(&mut self, translation: &Translation) {
        let left = Left {
            by_host: false,
            address: translation.address,
            port: translation.port,
        };
        if !self.add_place(&translation.key, left) {
            self.turned_away += 1;
        }
    }

    /// Notes where the host has sent packets of a flow; false if there is no room for it.
    pub fn translate_by_host(&mut self, key: &FlowKey, address: [u8; 16], port: u16) -> bool {
        let left = Left {
            by_host: true,
            address,
            port,
        };
        self.add_place(key, left)
    }

    fn add_place(&mut self, key: &FlowKey, left: Left) -> bool {
        match self.tallies.get_mut(key) {
            Some(tally) if tally.left.len() < TRANSLATIONS => {
                tally.left.insert(left);
                true
            }
            Some(tally) => tally.left.contains(&left),
            None => false,
        }
    }

    /// Translations for which there was no room, since the last call.
    pub fn take_turned_away(&mut self) -> u64 {
        std::mem::take(&mut self.turned_away)
    }

    /// Flows that have something to tell, or that are waited for.
    pub fn untold(&self) -> impl Iterator<Item = (&FlowKey, &Tally)> {
        let has_news = |(key, tally): &(&FlowKey, &Tally)| {
            tally.attempts.is_waiting() || !tally.to_tell(key, self.is_deaf).is_empty()
        };
        self.tallies.iter().filter(has_news)
    }

    /// Takes back what [`Self::untold`] gave.
    pub fn restore(&mut self, key: FlowKey, tally: Tally) {
        self.tallies.insert(key, tally);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.tallies.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    /// Hands out every flow that has something to tell. `tell` says whether it was told; if not
    /// (the container has no name yet), the flow stays as it is. Flows that had nothing to tell
    /// are forgotten, unless they are waited for.
    pub fn tell(&mut self, mut tell: impl FnMut(&FlowKey, &mut Tally, &[Told]) -> bool) {
        let mut waiting = 0;
        let is_deaf = self.is_deaf;
        self.tallies.retain(|key, tally| {
            let told = tally.to_tell(key, is_deaf);
            if told.is_empty() {
                waiting += usize::from(tally.attempts.is_waiting());
                return tally.attempts.is_waiting() && waiting <= MAX_WAITING;
            }
            if tell(key, tally, &told) {
                tally.was_told();
            }
            true
        });
    }
}

impl Tally {
    fn new(value: &FlowValue) -> Self {
        Self {
            count: 0,
            connects: 0,
            sent: 0,
            probes: 0,
            blocked: 0,
            established: 0,
            attempts: Attempts::default(),
            heard: Heard::default(),
            names: Vec::new(),
            exe: None,
            tool: None,
            left: BTreeSet::new(),
            first_ns: value.first_ns,
            last_ns: value.last_ns,
            told_ns: value.last_ns,
            interface: 0,
            tid: value.tid,
            uid: value.uid,
            parent_pid: value.parent_pid,
            comm: value.comm,
        }
    }

    /// Connects that have not sent by now and were not told before.
    fn new_probes(&self) -> u64 {
        self.connects.saturating_sub(self.sent + self.probes)
    }

    /// When it was first seen since it was last told, CLOCK_MONOTONIC.
    #[must_use]
    pub fn first_ns(&self) -> u64 {
        self.first_ns
    }

    /// One record for each place that packets went to; the counts are the first one's.
    fn to_tell(&self, key: &FlowKey, is_deaf: bool) -> Vec<Told> {
        let channel = channel_of(key.channel);
        let probes = self.new_probes();
        let own = Left {
            by_host: false,
            address: key.address,
            port: key.port,
        };
        let translated: Vec<Option<Left>> = match self.left.is_empty() {
            true => {
                let has_news = self.count > 0 || self.attempts.has_news() || self.heard.has_news();
                vec![None; usize::from(has_news)]
            }
            false => {
                // What was asked for comes first, if that left as well: with the counts.
                let as_asked = self.left.contains(&own).then_some(None);
                let others = self.left.iter().filter(|left| **left != own);
                as_asked
                    .into_iter()
                    .chain(others.copied().map(Some))
                    .collect()
            }
        };
        let mut all: Vec<Told> = translated
            .into_iter()
            .map(|translated| Told {
                translated,
                ..self.span(channel, 0)
            })
            .collect();
        if let Some(first) = all.first_mut() {
            first.count = self.count;
            (first.outcomes, first.lifetimes) = self.attempts.news();
            first.outcomes.established += self.established;
            first.answered = (!is_deaf && are_heard(key)).then_some(self.heard.has_news());
        }
        if probes > 0 {
            all.push(self.span(Channel::UdpProbe, probes));
        }
        // A datagram socket that may not connect sends nothing: what is denied there is a probe.
        let attempts = match channel {
            Channel::UdpConnect => all.last_mut(),
            Channel::Connect
            | Channel::Sendmsg
            | Channel::UdpProbe
            | Channel::Preexisting
            | Channel::Ping
            | Channel::Raw
            | Channel::UdpLite
            | Channel::Packet
            | Channel::Xdp
            | Channel::Tun
            | Channel::Vsock
            | Channel::Unix
            | Channel::Import => all.first_mut(),
        };
        if let Some(attempts) = attempts {
            attempts.outcomes.blocked += self.blocked.min(attempts.count);
        }
        self.settle(key, &mut all);
        all
    }

    /// What is not followed is unknown right away. Of a probe nothing can be known.
    fn settle(&self, key: &FlowKey, all: &mut [Told]) {
        let was_followed = self.attempts != Attempts::default();
        for told in all {
            let is_probe = told.channel == Channel::UdpProbe;
            let is_waited_for = was_followed && key.channel == channel::CONNECT;
            if !is_probe && !is_waited_for {
                let known = told.outcomes.sum();
                told.outcomes.unknown += told.count.saturating_sub(known);
            }
        }
    }

    fn span(&self, channel: Channel, count: u64) -> Told {
        // Told before: there is news of where it went, not of how often.
        let is_old = self.first_ns > self.last_ns;
        Told {
            channel,
            count,
            outcomes: Counts::default(),
            lifetimes: Lifetimes::default(),
            answered: None,
            translated: None,
            first_ns: if is_old { self.told_ns } else { self.first_ns },
            last_ns: if is_old { self.told_ns } else { self.last_ns },
        }
    }

    fn was_told(&mut self) {
        self.probes += self.new_probes();
        self.count = 0;
        self.blocked = 0;
        self.established = 0;
        self.attempts.was_told();
        self.heard.was_told();
        self.left.clear();
        self.told_ns = self.told_ns.max(self.last_ns);
        self.first_ns = u64::MAX;
        self.last_ns = 0;
    }
}

fn channel_of(kernel_channel: u8) -> Channel {
    match kernel_channel {
        channel::SENDMSG | channel::REPLY | channel::UNCERTAIN => Channel::Sendmsg,
        channel::CONNECTED_DATAGRAM | channel::CONNECTED_REPLY => Channel::UdpConnect,
        channel::PING => Channel::Ping,
        channel::RAW => Channel::Raw,
        channel::UDP_LITE => Channel::UdpLite,
        channel::PACKET => Channel::Packet,
        channel::XDP => Channel::Xdp,
        channel::VSOCK => Channel::Vsock,
        channel::TUN => Channel::Tun,
        channel::UNIX => Channel::Unix,
        channel::PREEXISTING | channel::PREEXISTING_REPLY => Channel::Preexisting,
        _connect => Channel::Connect,
    }
}

#[cfg(test)]
mod tests;
