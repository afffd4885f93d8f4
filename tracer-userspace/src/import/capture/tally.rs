//! `Tally`: finished conversations summed by destination and names, until they become flow records.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;

use crate::{
    import::capture::conversation::Conversation,
    place::place,
    record::{Channel, Direction, Flow, Name, Outcome, Process, Protocol},
};

/// Sums kept at a time. When there are more, all of them become records, and sums begin anew: what
/// records say adds up.
const MAX_SUMS: usize = 16_384;
/// Names told of one destination at a time.
const MAX_NAMES: usize = 32;

/// What sums are kept by.
type Destination = (Protocol, IpAddr, Option<u16>, Vec<Name>);

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Hashed with a seed of this process's own.
    sums: HashMap<Destination, Sum, foldhash::fast::RandomState>,
    /// Names beyond what is told of one destination.
    pub(super) refused_names: u64,
}

#[derive(Debug)]
struct Sum {
    count: u64,
    outcomes: BTreeMap<Outcome, u64>,
    sent: u64,
    received: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Tally {
    /// Adds a conversation that is over; what has to make room for it comes back.
    pub(super) fn add(
        &mut self,
        protocol: Protocol,
        server: SocketAddr,
        conversation: &Conversation,
    ) -> Vec<Flow> {
        let port = protocol.has_ports().then_some(server.port());
        let mut names = conversation.names();
        self.refused_names += names.len().saturating_sub(MAX_NAMES) as u64;
        names.truncate(MAX_NAMES);
        let sum = self
            .sums
            .entry((protocol, server.ip(), port, names))
            .or_insert_with(|| Sum {
                count: 0,
                outcomes: BTreeMap::new(),
                sent: 0,
                received: 0,
                first: conversation.first,
                last: conversation.last,
            });
        sum.count += conversation.count;
        *sum.outcomes.entry(conversation.outcome()).or_default() += conversation.count;
        sum.sent = sum.sent.saturating_add(conversation.sent);
        sum.received = sum.received.saturating_add(conversation.received);
        sum.first = sum.first.min(conversation.first);
        sum.last = sum.last.max(conversation.last);
        if self.sums.len() > MAX_SUMS {
            return self.take();
        }
        Vec::new()
    }

    /// Everything, in order.
    pub(super) fn take(&mut self) -> Vec<Flow> {
        let mut sums: Vec<(Destination, Sum)> = self.sums.drain().collect();
        sums.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let flows = sums.into_iter();
        flows
            .map(|(destination, sum)| flow(destination, sum))
            .collect()
    }
}

fn flow((protocol, dest_ip, dest_port, names): Destination, sum: Sum) -> Flow {
    Flow {
        protocol,
        dest_ip: Some(dest_ip),
        dest_zone: None,
        dest_cid: None,
        dest_cid_port: None,
        dest_path: None,
        role: None,
        peer: None,
        dest_port,
        names,
        channel: Channel::Import,
        direction: Direction::Egress,
        place: place(dest_ip),
        via: None,
        translated: None,
        outcomes: sum.outcomes,
        count: sum.count,
        bytes_sent: Some(sum.sent),
        bytes_received: Some(sum.received),
        latency_us: None,
        syn_retransmits: None,
        answered: None,
        ended: None,
        still_open: None,
        reset_later: None,
        duration_ms: None,
        first_seen: sum.first,
        last_seen: sum.last,
        process: Process::default(),
        cgroup_id: None,
        cgroup_path: None,
        container: None,
        tool: None,
    }
}
