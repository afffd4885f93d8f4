//! Counts per flow since they were last written. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tracer_common::flow::{FlowKey, FlowValue, channel};

use crate::record::Channel;

/// Flows that have something to tell, and a few that had.
#[derive(Debug, Default)]
pub struct Table {
    tallies: HashMap<FlowKey, Tally>,
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
    first_ns: u64,
    last_ns: u64,
    /// The first caller's.
    pub tid: u32,
    pub uid: u32,
    pub parent_pid: u32,
    pub comm: [u8; 16],
}

/// What one record is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub channel: Channel,
    pub count: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Table {
    /// Adds the counts of one sweep.
    pub fn absorb(&mut self, key: &FlowKey, value: &FlowValue) {
        let tally = self
            .tallies
            .entry(*key)
            .or_insert_with(|| Tally::new(value));
        tally.count += value.count;
        tally.connects += value.connects;
        tally.sent += value.count;
        tally.first_ns = tally.first_ns.min(value.first_ns);
        // The coarse clock of `last_ns` may lag behind the exact one of `first_ns`.
        tally.last_ns = tally.last_ns.max(value.last_ns).max(value.first_ns);
    }

    /// Flows that have something to tell.
    pub fn untold(&self) -> impl Iterator<Item = (&FlowKey, &Tally)> {
        let has_news = |(key, tally): &(&FlowKey, &Tally)| !tally.to_tell(key.channel).is_empty();
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
    /// are forgotten.
    pub fn tell(&mut self, mut tell: impl FnMut(&FlowKey, &Tally, &[Told]) -> bool) {
        self.tallies.retain(|key, tally| {
            let told = tally.to_tell(key.channel);
            if told.is_empty() {
                return false;
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
            first_ns: value.first_ns,
            last_ns: value.last_ns,
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

    fn to_tell(&self, kernel_channel: u8) -> Vec<Told> {
        let span = |channel, count| Told {
            channel,
            count,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
        };
        let sent = (self.count > 0).then(|| span(channel_of(kernel_channel), self.count));
        let probes = self.new_probes();
        let probed = (probes > 0).then(|| span(Channel::UdpProbe, probes));
        sent.into_iter().chain(probed).collect()
    }

    fn was_told(&mut self) {
        self.probes += self.new_probes();
        self.count = 0;
        self.first_ns = u64::MAX;
        self.last_ns = 0;
    }
}

fn channel_of(kernel_channel: u8) -> Channel {
    match kernel_channel {
        channel::SENDMSG => Channel::Sendmsg,
        channel::CONNECTED_DATAGRAM => Channel::UdpConnect,
        _connect => Channel::Connect,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn key(channel: u8) -> FlowKey {
        FlowKey {
            channel,
            ..FlowKey::zeroed()
        }
    }

    fn value(count: u64, connects: u64, at: u64) -> FlowValue {
        FlowValue {
            count,
            connects,
            first_ns: at,
            last_ns: at + 1,
            ..FlowValue::zeroed()
        }
    }

    fn told(table: &mut Table) -> Vec<(Channel, u64, u64, u64)> {
        let mut all = Vec::new();
        table.tell(|_, _, told| {
            all.extend(
                told.iter()
                    .map(|t| (t.channel, t.count, t.first_ns, t.last_ns)),
            );
            true
        });
        all
    }

    #[test]
    fn sums_are_totals_and_nothing_new_tells_nothing() {
        let mut table = Table::default();
        table.absorb(&key(channel::CONNECT), &value(2, 0, 10));
        table.absorb(&key(channel::CONNECT), &value(3, 0, 20));
        assert_eq!(told(&mut table), [(Channel::Connect, 5, 10, 21)]);
        assert_eq!(told(&mut table), []);
        table.absorb(&key(channel::CONNECT), &value(1, 0, 30));
        assert_eq!(told(&mut table), [(Channel::Connect, 1, 30, 31)]);
    }

    #[test]
    fn a_connect_is_a_probe_until_a_datagram_leaves() {
        let mut table = Table::default();
        let connected = key(channel::CONNECTED_DATAGRAM);
        table.absorb(&connected, &value(0, 2, 10));
        assert_eq!(told(&mut table), [(Channel::UdpProbe, 2, 10, 11)]);
        table.absorb(&connected, &value(1, 0, 20));
        assert_eq!(told(&mut table), [(Channel::UdpConnect, 1, 20, 21)]);
    }

    #[test]
    fn a_connect_that_sends_at_once_is_no_probe() {
        let mut table = Table::default();
        table.absorb(&key(channel::CONNECTED_DATAGRAM), &value(1, 1, 10));
        assert_eq!(told(&mut table), [(Channel::UdpConnect, 1, 10, 11)]);
    }

    #[test]
    fn what_was_not_told_is_told_later() {
        let mut table = Table::default();
        table.absorb(&key(channel::SENDMSG), &value(4, 0, 10));
        table.tell(|_, _, _| false);
        table.absorb(&key(channel::SENDMSG), &value(1, 0, 20));
        assert_eq!(told(&mut table), [(Channel::Sendmsg, 5, 10, 21)]);
    }

    #[test]
    fn idle_flows_are_forgotten() {
        let mut table = Table::default();
        table.absorb(&key(channel::CONNECT), &value(1, 0, 10));
        assert_eq!(told(&mut table).len(), 1);
        assert_eq!(table.len(), 1);
        assert_eq!(told(&mut table).len(), 0);
        assert!(table.is_empty());
    }
}
