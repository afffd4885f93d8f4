//! Whose connections the host has rewritten. Pure.
//!
//! The host's table tells where a packet came from, not which container sent it. The hooks tell
//! where the first packet of a flow came from, address and port, as it left its network namespace:
//! the two together are certain. Further connections of the same flow are known by their source
//! address alone, which is as certain as long as only one namespace sends from it.

use std::collections::{HashMap, HashSet};

use tracer_common::flow::{FlowKey, FlowValue};

use crate::conntrack::{Arrived, Listing, Sent};

/// What a source address asked for: everything of [`Arrived`] but the source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    protocol: u8,
    source: [u8; 16],
    address: [u8; 16],
    port: u16,
}

/// A flow, and the source port of its first packet.
#[derive(Clone, Copy, Debug)]
struct Departure {
    key: FlowKey,
    source_port: u16,
}

/// Which network namespaces send from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Senders {
    One(u64),
    Several,
}

/// What left between two sweeps: no more than the flow table holds.
#[derive(Debug, Default)]
struct Window {
    departures: HashMap<Asked, Vec<Departure>>,
    senders: HashMap<[u8; 16], Senders>,
}

/// Brings together what left and what the host has rewritten.
#[derive(Debug)]
pub struct Rewrites {
    /// Cookie of the host's network namespace, whose own rewrites the hooks see.
    own: u64,
    now: Window,
    before: Window,
    /// The host's table since the last sweep; `None`: several places for one connection, which
    /// then is in several zones.
    listed: HashMap<Arrived, Option<Sent>>,
    /// And before.
    known: HashMap<Arrived, Option<Sent>>,
    /// What was new then and nobody's: its flow comes with the next sweep if it is one of ours.
    unclaimed: Vec<(Arrived, Sent)>,
    found: u64,
    /// Rewrites that could not be put down to a flow for want of room, or for certain.
    lost: u64,
    untold: u64,
}

impl Rewrites {
    #[must_use]
    pub fn new(own: u64) -> Self {
        Self {
            own,
            now: Window::default(),
            before: Window::default(),
            listed: HashMap::new(),
            known: HashMap::new(),
            unclaimed: Vec::new(),
            found: 0,
            lost: 0,
            untold: 0,
        }
    }

    /// Flows left.
    pub fn departed(&mut self, counts: &[(FlowKey, FlowValue)]) {
        for (key, value) in counts {
            if key.netns_cookie != self.own && value.source != [0; 16] {
                self.now.add(key, value);
            }
        }
    }

    /// The host's table was read.
    pub fn listed(&mut self, listing: Listing) {
        self.lose(listing.turned_away);
        for (arrived, sent) in listing.rewritten {
            let known = self.listed.entry(arrived).or_insert(Some(sent));
            if known.is_some_and(|known| known != sent) {
                *known = None;
            }
        }
    }

    /// A sweep is complete: the flows that the host has rewritten, with where it sent them.
    pub fn swept(&mut self) -> Vec<(FlowKey, Sent)> {
        let mut found = HashSet::new();
        self.find_exactly(&mut found);
        let mut new = std::mem::take(&mut self.unclaimed);
        let retried = new.len();
        let fresh = self.listed.iter().filter_map(|(arrived, sent)| {
            let is_new = self.known.get(arrived) != Some(sent);
            sent.filter(|_| is_new).map(|sent| (*arrived, sent))
        });
        new.extend(fresh);
        for (index, (arrived, sent)) in new.into_iter().enumerate() {
            match self.whose(&arrived) {
                Some(Whose::Flows(keys)) => found.extend(keys.into_iter().map(|key| (key, sent))),
                Some(Whose::Exact) => {}
                Some(Whose::Unclear) => self.lose(1),
                None if index >= retried => self.unclaimed.push((arrived, sent)),
                None => {}
            }
        }
        self.before = std::mem::take(&mut self.now);
        if !self.listed.is_empty() {
            self.known = std::mem::take(&mut self.listed);
        }
        self.found += found.len() as u64;
        found.into_iter().collect()
    }

    /// Flows whose first packet is in the table, address and port.
    fn find_exactly(&mut self, found: &mut HashSet<(FlowKey, Sent)>) {
        let mut unclear = 0;
        for (asked, departures) in &self.now.departures {
            for departure in departures {
                let arrived = asked.from(departure.source_port);
                let listed = self.listed.get(&arrived).or(self.known.get(&arrived));
                match listed {
                    Some(Some(sent)) => {
                        found.insert((departure.key, *sent));
                    }
                    Some(None) => unclear += 1,
                    None => {}
                }
            }
        }
        self.lose(unclear);
    }

    /// The flows that a rewritten connection belongs to; `None`: none that is known.
    fn whose(&self, arrived: &Arrived) -> Option<Whose> {
        let asked = Asked::of(arrived);
        let departures: Vec<&Departure> = [&self.now, &self.before]
            .into_iter()
            .filter_map(|window| window.departures.get(&asked))
            .flatten()
            .collect();
        if departures.is_empty() {
            return None;
        }
        let is_first = |each: &&Departure| each.source_port == arrived.source_port;
        let senders = [&self.now, &self.before].map(|window| window.senders.get(&asked.source));
        let is_one = match senders {
            [Some(Senders::One(one)), Some(Senders::One(other))] => one == other,
            [Some(Senders::One(_)), None] | [None, Some(Senders::One(_))] => true,
            [Some(Senders::Several), _] | [_, Some(Senders::Several)] | [None, None] => false,
        };
        Some(if is_one {
            Whose::Flows(departures.iter().map(|departure| departure.key).collect())
        } else if departures.iter().any(is_first) {
            Whose::Exact
        } else {
            Whose::Unclear
        })
    }

    fn lose(&mut self, lost: u64) {
        self.lost += lost;
        self.untold += lost;
    }

    /// One that could be put down to a flow, which had no room for it.
    pub fn turned_away(&mut self) {
        self.lose(1);
    }

    /// What was lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// For `stats`, documented in `docs/log.md`.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 2] {
        [
            ("host_rewrites", self.found),
            ("host_rewrites_lost", self.lost),
        ]
    }
}

/// To what a rewritten connection belongs.
enum Whose {
    /// All of these: they asked for the same, from the one namespace that has the address.
    Flows(Vec<FlowKey>),
    /// The flow whose first packet it is, and no other.
    Exact,
    /// One of several namespaces that send from the address.
    Unclear,
}

impl Window {
    fn add(&mut self, key: &FlowKey, value: &FlowValue) {
        let Ok(protocol) = u8::try_from(key.protocol) else {
            return;
        };
        let asked = Asked {
            protocol,
            source: value.source,
            address: key.address,
            port: key.port,
        };
        self.departures.entry(asked).or_default().push(Departure {
            key: *key,
            source_port: value.source_port,
        });
        let own = Senders::One(key.netns_cookie);
        let senders = self.senders.entry(value.source).or_insert(own);
        if *senders != own {
            *senders = Senders::Several;
        }
    }
}

impl Asked {
    fn of(arrived: &Arrived) -> Self {
        Self {
            protocol: arrived.protocol,
            source: arrived.source,
            address: arrived.address,
            port: arrived.port,
        }
    }

    fn from(&self, source_port: u16) -> Arrived {
        Arrived {
            protocol: self.protocol,
            source: self.source,
            source_port,
            address: self.address,
            port: self.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    const HOST: u64 = 1;
    const SERVICE: [u8; 16] = [9; 16];

    fn left(netns: u64, pid: u32, source: u8, port: u16) -> (FlowKey, FlowValue) {
        let key = FlowKey {
            netns_cookie: netns,
            pid,
            protocol: 6,
            address: SERVICE,
            port: 80,
            ..FlowKey::zeroed()
        };
        let value = FlowValue {
            source: [source; 16],
            source_port: port,
            ..FlowValue::zeroed()
        };
        (key, value)
    }

    fn connection(source: u8, source_port: u16, backend: u8) -> (Arrived, Sent) {
        let arrived = Arrived {
            protocol: 6,
            source: [source; 16],
            source_port,
            address: SERVICE,
            port: 80,
        };
        let sent = Sent {
            address: [backend; 16],
            port: 8080,
        };
        (arrived, sent)
    }

    fn listing(all: &[(Arrived, Sent)]) -> Listing {
        Listing {
            rewritten: all.to_vec(),
            turned_away: 0,
        }
    }

    /// (pid, backend), sorted.
    fn swept(rewrites: &mut Rewrites) -> Vec<(u32, u8)> {
        let found = rewrites.swept();
        let mut found: Vec<_> = found
            .iter()
            .map(|(key, sent)| (key.pid, sent.address[0]))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn every_backend_is_found_although_one_packet_was_noted() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.departed(&[left(7, 70, 1, 1000)]);
        let all = [
            connection(1, 1000, 20),
            connection(1, 1001, 21),
            connection(1, 1002, 22),
        ];
        rewrites.listed(listing(&all));
        assert_eq!(swept(&mut rewrites), [(70, 20), (70, 21), (70, 22)]);
        assert_eq!(rewrites.take_lost(), 0);
    }

    #[test]
    fn two_namespaces_with_one_address_are_told_apart_by_the_port() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.departed(&[left(7, 70, 1, 1000), left(8, 80, 1, 2000)]);
        let all = [
            connection(1, 1000, 20),
            connection(1, 2000, 21),
            connection(1, 2001, 22),
        ];
        rewrites.listed(listing(&all));
        assert_eq!(swept(&mut rewrites), [(70, 20), (80, 21)]);
        assert_eq!(rewrites.take_lost(), 1);
    }

    #[test]
    fn an_address_that_another_container_has_now_brings_nothing_old_with_it() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.departed(&[left(7, 70, 1, 1000)]);
        rewrites.listed(listing(&[connection(1, 1000, 20)]));
        assert_eq!(swept(&mut rewrites), [(70, 20)]);
        for _ in 0..2 {
            rewrites.listed(listing(&[connection(1, 1000, 20)]));
            assert_eq!(swept(&mut rewrites), []);
        }
        rewrites.departed(&[left(8, 80, 1, 2000)]);
        rewrites.listed(listing(&[connection(1, 1000, 20), connection(1, 2000, 21)]));
        assert_eq!(swept(&mut rewrites), [(80, 21)]);
    }

    #[test]
    fn a_connection_waits_one_sweep_for_its_flow() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.listed(listing(&[connection(1, 1001, 20)]));
        assert_eq!(swept(&mut rewrites), []);
        rewrites.departed(&[left(7, 70, 1, 1000)]);
        assert_eq!(swept(&mut rewrites), [(70, 20)]);
        assert_eq!(rewrites.take_lost(), 0);
    }

    #[test]
    fn a_connection_that_lasts_is_told_with_each_sweep_in_which_it_is_used() {
        let mut rewrites = Rewrites::new(HOST);
        for _ in 0..3 {
            rewrites.departed(&[left(7, 70, 1, 1000)]);
            rewrites.listed(listing(&[connection(1, 1000, 20)]));
            assert_eq!(swept(&mut rewrites), [(70, 20)]);
        }
    }

    #[test]
    fn two_zones_with_the_same_connection_are_unclear() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.departed(&[left(7, 70, 1, 1000)]);
        rewrites.listed(listing(&[connection(1, 1000, 20), connection(1, 1000, 21)]));
        assert_eq!(swept(&mut rewrites), []);
        assert_eq!(rewrites.take_lost(), 1);
    }

    #[test]
    fn what_the_host_itself_sends_and_what_nobody_sends_is_nobodys() {
        let mut rewrites = Rewrites::new(HOST);
        rewrites.departed(&[left(HOST, 70, 1, 1000)]);
        rewrites.listed(Listing {
            turned_away: 3,
            ..listing(&[connection(1, 1000, 20), connection(2, 1000, 20)])
        });
        assert_eq!(swept(&mut rewrites), []);
        assert_eq!(swept(&mut rewrites), []);
        assert_eq!(rewrites.take_lost(), 3);
        assert_eq!(rewrites.take_lost(), 0);
    }
}
