//! What was said on the wire: DNS exchanges as records, and the names of flows.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use bytemuck::Zeroable as _;
use jiff::Timestamp;
use tracer_common::flow::FlowKey;

use super::{Recorder, Subject};
use crate::{
    aggregate::{
        losses::Affected,
        table::Told,
        wire::{Asks, Destination, Late},
        workload::WorkloadError,
    },
    decode::{dns::Transport, wire::Piece},
    enrich::machine::{Attribution, Concerned, Origin},
    record::{Channel, Dns, Entry, Flow, Gap, GapKind, Name, Protocol, Record, Severity},
};

/// DNS records of one client that wait to be written.
const MAX_UNWRITTEN: usize = 4096;

/// The kernel tells the time of a flow's last observation a tick late.
const TICK_NS: u64 = 10_000_000;

/// The client of a recorded command: all that happens in its cgroup.
const COMMAND: u64 = 0;

/// DNS exchanges that no log has yet, by client.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    by_client: BTreeMap<u64, Vec<Dns>>,
    /// How many found no room.
    refused: HashMap<u64, u64>,
}

/// The kernel's own time in a timestamp's clothes. What is compared with one another must not
/// depend on when clocks were read; only what is written is told by the wall's.
fn monotonic(at_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or(Timestamp::MAX)
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

impl Recorder {
    pub(super) fn take_wire(&mut self, pieces: Vec<Piece>) {
        self.counters.wire_pieces += pieces.len() as u64;
        for piece in pieces {
            let client = self.client(piece.cgroup_id);
            if let Some(unit) = self.resolver(piece.cgroup_id) {
                self.wire.answers_others(client, unit);
            }
            let time = monotonic(piece.at_ns);
            let exchanges = self.wire.take(client, time, &piece);
            self.keep_exchanges(exchanges);
        }
    }

    fn keep_exchanges(&mut self, exchanges: Vec<(u64, Dns)>) {
        for (client, dns) in exchanges {
            let waiting = self.unwritten.by_client.entry(client).or_default();
            if waiting.len() < MAX_UNWRITTEN {
                let asked = self.clock.wall(nanoseconds(dns.asked));
                waiting.push(Dns { asked, ..dns });
            } else {
                *self.unwritten.refused.entry(client).or_default() += 1;
            }
        }
    }

    /// Whose names those of a cgroup are. A container is one client, whatever cgroups are in it.
    fn client(&self, cgroup_id: u64) -> u64 {
        match &self.subject {
            Subject::Machine(machine) => machine.client(cgroup_id),
            Subject::Command { .. } => COMMAND,
        }
    }

    /// The unit of a resolver that others ask by a Unix socket.
    fn resolver(&self, cgroup_id: u64) -> Option<&'static str> {
        match &self.subject {
            Subject::Machine(machine) => machine.resolver(cgroup_id),
            Subject::Command { .. } => None,
        }
    }

    /// Whom the processes of a cgroup can ask: the machine's sockets are not in containers.
    fn asks(&self, cgroup_id: u64) -> Asks {
        match &self.subject {
            Subject::Machine(machine) if !machine.is_contained(cgroup_id) => Asks::Anybody,
            Subject::Machine(_) | Subject::Command { .. } => Asks::Network,
        }
    }

    /// Writes what was asked and answered, as far as it is known whose it is.
    pub(super) fn tell_dns(&mut self, is_end: bool) -> Result<(), WorkloadError> {
        let unanswered = if is_end {
            self.wire.all_unanswered()
        } else {
            self.wire.unanswered(monotonic(self.clock.monotonic_ns()))
        };
        self.keep_exchanges(unanswered);
        for (client, exchanges) in std::mem::take(&mut self.unwritten.by_client) {
            match self.client_origin(client) {
                Attribution::Known(origin) => self.write_exchanges(&origin, exchanges)?,
                Attribution::Waiting => {
                    self.unwritten.by_client.insert(client, exchanges);
                }
                Attribution::NotSelected => {}
            }
        }
        self.tell_refused_names()
    }

    fn write_exchanges(
        &mut self,
        origin: &Origin,
        exchanges: Vec<Dns>,
    ) -> Result<(), WorkloadError> {
        let recorded = self.workload(&origin.workload, &origin.run)?;
        for dns in exchanges {
            let record = Record::Dns(recorded.workload.envelope(&origin.run, Box::new(dns)));
            recorded.workload.tell(&record);
        }
        Ok(())
    }

    fn client_origin(&mut self, client: u64) -> Attribution {
        match &mut self.subject {
            Subject::Machine(machine) => {
                let key = FlowKey {
                    cgroup_id: client,
                    ..FlowKey::zeroed()
                };
                machine.attribute(&key, &[0; 16], None)
            }
            Subject::Command { workload, run, .. } => Attribution::Known(Origin {
                workload: workload.clone(),
                run: run.clone(),
                cgroup_path: None,
                container: None,
                via: None,
            }),
        }
    }

    /// The names under which a flow went to its destination, and to what left in its place.
    pub(super) fn names_of(&mut self, cgroup_id: u64, flow: &Flow, told: &Told) -> Vec<Name> {
        let client = self.client(cgroup_id);
        let last_ns = match told.count {
            0 | 1 => told.first_ns,
            2.. => told.last_ns.saturating_add(TICK_NS),
        };
        let when = (monotonic(told.first_ns), monotonic(last_ns));
        let transport = transport(flow.protocol);
        let asks = self.asks(cgroup_id);
        let mut names = self
            .wire
            .names(client, asks, destination_of(flow), transport, when);
        if let Some(left) = flow.translated {
            let at = SocketAddr::new(left.ip, left.port.unwrap_or(0));
            for name in self.wire.names(client, asks, at, transport, when) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Keeps the record of a flow, for what its connections may say later. It is moved here: copying
    /// each one's command lines would be what a flood of flows costs.
    pub(super) fn may_be_named_later(&mut self, cgroup_id: u64, record: Record, origin: &Origin) {
        let Record::Flow(Entry { body: flow, .. }) = record else {
            return;
        };
        let Some(transport) = transport(flow.protocol) else {
            return;
        };
        if flow.channel != Channel::UdpProbe {
            let destination = Destination {
                client: self.client(cgroup_id),
                transport,
                at: destination_of(&flow),
            };
            self.wire.claimed().told(destination, flow, origin);
        }
    }

    /// Names that came after the records of their flows: records that count nothing.
    pub(super) fn tell_late_names(&mut self) -> Result<(), WorkloadError> {
        for late in self.wire.claimed().late() {
            let names = self.wire.late_names(&late);
            let Late {
                said, flow, origin, ..
            } = late;
            let seen = self.clock.wall(nanoseconds(said));
            let flow = Flow {
                names,
                count: 0,
                outcomes: BTreeMap::new(),
                bytes_sent: None,
                bytes_received: None,
                latency_us: None,
                syn_retransmits: None,
                answered: None,
                ended: None,
                still_open: None,
                reset_later: None,
                duration_ms: None,
                first_seen: seen,
                last_seen: seen,
                ..*flow
            };
            self.tell_flow(Box::new(flow), &origin)?;
        }
        Ok(())
    }

    fn tell_refused_names(&mut self) -> Result<(), WorkloadError> {
        for (client, lost) in std::mem::take(&mut self.unwritten.refused) {
            let workload = match self.concerned(client) {
                Concerned::Workload(name) => Some(name),
                Concerned::Everybody => None,
                Concerned::Nobody => continue,
            };
            let detail = "more DNS exchanges at a time than are kept: some were not recorded";
            let gap = wire_gap(detail, lost);
            self.tell_gap(Affected { workload, gap })?;
        }
        let refused = self.wire.counts().refused;
        let lost = refused - std::mem::replace(&mut self.counters.names_refused, refused);
        if lost > 0 {
            let detail = "names found no room: some flows may lack theirs";
            let gap = wire_gap(detail, lost);
            let workload = None;
            self.tell_gap(Affected { workload, gap })?;
        }
        Ok(())
    }
}

fn wire_gap(detail: &str, lost: u64) -> Gap {
    Gap {
        what: GapKind::Wire,
        detail: detail.to_owned(),
        lost: Some(lost),
        severity: Severity::Detail,
    }
}

fn destination_of(flow: &Flow) -> SocketAddr {
    // What has no address has no transport either, and never asks.
    let ip = flow.dest_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    SocketAddr::new(ip, flow.dest_port.unwrap_or(0))
}

/// Where connections say names.
fn transport(protocol: Protocol) -> Option<Transport> {
    match protocol {
        Protocol::TCP => Some(Transport::Tcp),
        Protocol::UDP => Some(Transport::Udp),
        _silent => None,
    }
}
