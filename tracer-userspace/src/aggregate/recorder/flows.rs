//! Flows as records: whose they are, who sent them, and what became of them.

use std::{net::IpAddr, path::Path};

use tracer_common::flow::{FlowKey, channel};

use super::{Recorder, Subject};
use crate::{
    aggregate::{
        losses::socket_names,
        recorded::Recorded,
        table::{Left, Tally, Told},
        workload::WorkloadError,
    },
    analysis::role::role,
    decode::process::ProcessId,
    enrich::{
        around::{self, Neighbour},
        cgroup::is_below,
        machine::{Attribution, Origin},
        process::{
            image::comm_text,
            table::{Processes, Sender},
        },
    },
    place::place,
    record::{
        Channel, Direction, Flow, Place, Process, Protocol, Record, RewrittenBy, Role, Translated,
        ip_from_mapped,
    },
};

/// `IPPROTO_MPTCP`: TCP, on the wire and in every rule.
const MPTCP: u16 = 262;

impl Recorder {
    /// Writes what is new. A log is rotated between two flows, at a moment when the account says
    /// how far each log goes: what a closed segment has is never told again.
    pub(super) fn tell_flows(&mut self) -> Result<(), WorkloadError> {
        self.around.forget();
        if let Some(marks) = &self.marks {
            marks.catch_up();
        }
        loop {
            self.tell_until_full()?;
            if !self.rotate_full() {
                break;
            }
        }
        self.tell_late_names()?;
        if let Some(affected) = socket_names(self.sockets.take_untold()) {
            self.tell_gap(affected)?;
        }
        self.rotate_full();
        Ok(())
    }

    pub(super) fn rotate_full(&mut self) -> bool {
        let is_full = |recorded: &Recorded| recorded.workload.is_full();
        if !self.workloads.values().any(is_full) {
            return false;
        }
        self.settle_account();
        for (name, recorded) in &mut self.workloads {
            if is_full(recorded) {
                recorded.workload.rotate();
                if let (Some(book), Some(mark)) = (&mut self.book, recorded.mark()) {
                    book.opened(name, mark);
                }
            }
        }
        true
    }

    pub(super) fn tell_until_full(&mut self) -> Result<(), WorkloadError> {
        let told_before = self.spans_are_told_before();
        // The table lends its entries while records are made, which needs the rest of `self`.
        let mut table = std::mem::take(&mut self.table);
        let mut result = Ok(());
        let mut is_full = false;
        table.tell(|key, tally, told| {
            if is_full {
                return false;
            }
            let origin = match self.attribute(key, tally) {
                Attribution::Waiting => return false,
                Attribution::NotSelected => return true,
                Attribution::Known(_) if self.stays_inside(key) => return true,
                Attribution::Known(origin) => origin,
            };
            // What has no time of its own, being about earlier attempts, waits for nothing.
            let waits = (told_before..u64::MAX).contains(&tally.first_ns());
            if waits && !self.is_ending(&origin) {
                return false;
            }
            for told in told {
                let mut flow = self.flow(key, tally, told, &origin);
                self.name(key, tally, told, &mut flow);
                self.label(key, &mut flow);
                self.tell_tool(key, tally, told, &mut flow);
                self.ask_spans(tally, told, &origin, &mut flow);
                match self.tell_flow(Box::new(flow), &origin) {
                    Ok((record, full)) => {
                        is_full |= full;
                        if told.count > 0 {
                            self.may_be_named_later(key.cgroup_id, record, &origin);
                        }
                    }
                    Err(error) => {
                        result = Err(error);
                        return false;
                    }
                }
            }
            true
        });
        self.table = table;
        result
    }

    /// Flows that began from then on wait for spans that are still to come.
    fn spans_are_told_before(&mut self) -> u64 {
        let is_crowded = self.table.len() > self.settings.table_limit;
        let now_ns = self.clock.monotonic_ns();
        let now = self.clock.wall(now_ns);
        let Some(spans) = &mut self.spans else {
            return u64::MAX;
        };
        spans.take_in(now);
        match self.is_ending || is_crowded {
            true => u64::MAX,
            false => now_ns.saturating_sub(spans.wait_ns()),
        }
    }

    /// Whether this is the last that is told of a run.
    fn is_ending(&self, origin: &Origin) -> bool {
        let recorded = self.workloads.get(&origin.workload);
        recorded.is_some_and(|recorded| recorded.ending.contains(&origin.run))
    }

    /// What markers have not said. What became of attempts has no time of its own: it is told as
    /// the attempts were.
    fn ask_spans(&self, tally: &mut Tally, told: &Told, origin: &Origin, flow: &mut Flow) {
        let Some(spans) = &self.spans else {
            return;
        };
        if flow.tool.is_some() {
            return;
        }
        if told.count > 0 || told.translated.is_some() {
            let is_one_command = matches!(self.subject, Subject::Command { .. });
            tally.tool = spans.tool(flow, &origin.workload, is_one_command);
        }
        flow.tool.clone_from(&tally.tool);
    }

    /// Names a flow. A record that only tells what became of attempts says of them what the record
    /// said that counted them: names run out, and processes are forgotten.
    fn name(&mut self, key: &FlowKey, tally: &mut Tally, told: &Told, flow: &mut Flow) {
        let is_aftermath = told.count == 0 && told.translated.is_none();
        if is_aftermath {
            flow.names.clone_from(&tally.names);
            if flow.process.exe.is_none() {
                flow.process.exe.clone_from(&tally.exe);
            }
            return;
        }
        flow.names = self.names_of(key.cgroup_id, flow, told);
        if told.count > 0 {
            tally.names.clone_from(&flow.names);
            tally.exe.clone_from(&flow.process.exe);
        }
    }

    /// Says what a named flow's destination is there for, or whose it is.
    fn label(&mut self, key: &FlowKey, flow: &mut Flow) {
        let Some(address) = flow.dest_ip else {
            return;
        };
        let names = flow.names.iter().map(|name| name.name.as_str());
        flow.role = role(address, flow.protocol, flow.dest_port, names);
        if flow.place == Some(Place::Loopback) {
            return;
        }
        let Self {
            around,
            subject,
            proc,
            ..
        } = self;
        let neighbour = match subject {
            Subject::Machine(machine) => around.at(address, proc, || machine.running()),
            Subject::Command { .. } => around.at(address, proc, Vec::new),
        };
        match neighbour {
            Some(Neighbour::Host) => flow.role = flow.role.or(Some(Role::Host)),
            // A container's own address is nobody else's.
            Some(Neighbour::Container { id, name }) if !self.is_of(key, &id) => {
                flow.role = flow.role.or(Some(Role::Container));
                flow.peer = Some(self.hidden(&name));
            }
            Some(Neighbour::Container { .. }) | None => {}
        }
    }

    /// Whether a flow's sender is in that container.
    fn is_of(&mut self, key: &FlowKey, container: &str) -> bool {
        match &mut self.subject {
            Subject::Machine(machine) => {
                let own = machine.container_of(key.cgroup_id, key.pid);
                own.as_deref() == Some(container)
            }
            Subject::Command { .. } => false,
        }
    }

    pub(super) fn attribute(&mut self, key: &FlowKey, tally: &Tally) -> Attribution {
        match &mut self.subject {
            Subject::Machine(machine) => {
                let command = machine
                    .needs_command()
                    .then(|| command(&mut self.processes, key, tally));
                machine.attribute(key, &tally.comm, command.as_deref())
            }
            Subject::Command {
                workload,
                run,
                cgroups,
                ..
            } => {
                let cgroup = cgroups.get(key.cgroup_id, &self.proc, key.pid);
                Attribution::Known(Origin {
                    workload: workload.clone(),
                    run: run.clone(),
                    cgroup_path: cgroup.map(|cgroup| cgroup.path.as_str().into()),
                    container: None,
                    via: None,
                })
            }
        }
    }

    pub(super) fn flow(
        &mut self,
        key: &FlowKey,
        tally: &Tally,
        told: &Told,
        origin: &Origin,
    ) -> Flow {
        let protocol = match key.protocol {
            MPTCP => Protocol::TCP,
            number => Protocol(u8::try_from(number).unwrap_or(u8::MAX)),
        };
        let Destination {
            ip: dest_ip,
            cid: dest_cid,
            cid_port: dest_cid_port,
            path: dest_path,
        } = self.destination(key, told.channel);
        let port_of = |port| protocol.has_ports().then_some(port);
        let translated = |left: Left| Translated {
            ip: ip_from_mapped(left.address),
            port: port_of(left.port),
            by: left.by_host.then_some(RewrittenBy::Host),
        };
        let lifetimes = told.lifetimes;
        let ended = lifetimes.ended;
        let known = |figure: u64| (figure > 0 || ended > 0).then_some(figure);
        let is_said = ended > 0 || lifetimes.still_open > 0;
        Flow {
            protocol,
            dest_ip,
            dest_zone: self.zone(key, tally, dest_ip),
            dest_cid,
            dest_cid_port,
            dest_path,
            dest_port: port_of(key.port),
            names: Vec::new(),
            channel: told.channel,
            direction: match key.channel {
                channel::PREEXISTING_REPLY | channel::REPLY | channel::CONNECTED_REPLY => {
                    Direction::Reply
                }
                channel::UNCERTAIN => Direction::Unknown,
                _others => Direction::Egress,
            },
            place: dest_ip.and_then(place),
            role: None,
            peer: None,
            translated: told.translated.map(translated),
            via: origin.via,
            outcomes: told.outcomes.by_outcome(),
            answered: told.answered,
            count: told.count,
            bytes_sent: is_said.then_some(lifetimes.bytes_sent),
            bytes_received: (is_said || lifetimes.bytes_received > 0)
                .then_some(lifetimes.bytes_received),
            latency_us: lifetimes
                .latency_ns
                .checked_div(lifetimes.established)
                .map(|mean_ns| mean_ns / 1000),
            syn_retransmits: known(lifetimes.syn_retransmits),
            ended: known(ended),
            still_open: (lifetimes.still_open > 0).then_some(lifetimes.still_open),
            reset_later: known(lifetimes.reset_later),
            duration_ms: (ended > 0).then_some(lifetimes.duration_ns / 1_000_000),
            first_seen: self.clock.wall(told.first_ns),
            last_seen: self.clock.wall(told.last_ns),
            process: self.process(key, tally, told.first_ns),
            cgroup_id: Some(key.cgroup_id),
            cgroup_path: origin.cgroup_path.as_deref().map(|path| self.hidden(path)),
            container: origin.container.as_deref().cloned(),
            tool: None,
        }
    }

    /// By which interface a link-local address is meant.
    fn zone(&self, key: &FlowKey, tally: &Tally, address: Option<IpAddr>) -> Option<String> {
        let Some(IpAddr::V6(address)) = address else {
            return None;
        };
        // ff01::/16 and ff02::/16 (RFC 4291 section 2.7) stay as near.
        let is_near_group = matches!(address.segments()[0] & 0xff0f, 0xff01 | 0xff02);
        if tally.interface == 0 || !(address.is_unicast_link_local() || is_near_group) {
            return None;
        }
        let process = self.proc.join(key.pid.to_string());
        let name = around::interface(&process, tally.interface);
        Some(name.map_or_else(|| tally.interface.to_string(), |name| self.hidden(&name)))
    }

    fn destination(&mut self, key: &FlowKey, channel: Channel) -> Destination {
        let nowhere = Destination::default();
        match channel {
            Channel::Packet | Channel::Xdp | Channel::Tun => nowhere,
            Channel::Vsock => {
                let (cid, cid_port) = vsock_peer(key.address);
                Destination {
                    cid,
                    cid_port,
                    ..nowhere
                }
            }
            Channel::Unix => Destination {
                path: self.sockets.name(key).map(|name| self.hidden(&name)),
                ..nowhere
            },
            Channel::Connect
            | Channel::Sendmsg
            | Channel::UdpConnect
            | Channel::UdpProbe
            | Channel::Preexisting
            | Channel::Ping
            | Channel::Raw
            | Channel::UdpLite
            | Channel::Import => Destination {
                ip: Some(ip_from_mapped(key.address)),
                ..nowhere
            },
        }
    }

    pub(super) fn process(&mut self, key: &FlowKey, tally: &Tally, first_ns: u64) -> Process {
        if key.pid == 0 {
            // A socket that nobody holds any more; its owner's user is what is left.
            return Process {
                uid: Some(tally.uid),
                ..Process::default()
            };
        }
        let mut process = Process {
            pid: Some(key.pid),
            tid: Some(tally.tid),
            ppid: Some(tally.parent_pid),
            uid: Some(tally.uid),
            comm: Some(self.hidden(&comm_text(&tally.comm))),
            ..Process::default()
        };
        let sender = sender(key, tally, first_ns);
        let Self {
            processes,
            subject,
            clock,
            proc,
            ..
        } = self;
        let clock = |boot_ns| clock.wall_of_boot(boot_ns);
        match subject {
            Subject::Machine(machine) => {
                let container = machine.container_of(key.cgroup_id, key.pid);
                let within = |cgroup_id, pid| machine.container_of(cgroup_id, pid) == container;
                processes.describe(&sender, clock, within, &mut process);
            }
            Subject::Command {
                cgroups, cgroup, ..
            } => {
                let within = |cgroup_id, pid| {
                    let found = cgroups.get(cgroup_id, proc, pid);
                    found.is_some_and(|found| is_below(&found.path, cgroup))
                };
                processes.describe(&sender, clock, within, &mut process);
            }
        }
        for ancestor in &mut process.ancestors {
            ancestor.comm = ancestor.comm.take().map(|comm| self.hidden(&comm));
        }
        process
    }

    /// A text without the secrets in it.
    fn hidden(&self, text: &str) -> String {
        self.settings.redactor.text(text).into_owned()
    }

    /// What was written, and whether the log is due for rotation.
    pub(super) fn tell_flow(
        &mut self,
        flow: Box<Flow>,
        origin: &Origin,
    ) -> Result<(Record, bool), WorkloadError> {
        let recorded = self.workload(&origin.workload, &origin.run)?;
        let record = Record::Flow(recorded.workload.envelope(&origin.run, flow));
        recorded.workload.tell(&record);
        let is_full = recorded.workload.is_full();
        self.tell_drift(&record, origin)?;
        Ok((record, is_full))
    }
}

/// The executable's name; where the process was gone, what it called itself.
fn command(processes: &mut Processes, key: &FlowKey, tally: &Tally) -> String {
    let sender = sender(key, tally, tally.first_ns());
    let exe = processes.exe(&sender);
    let name = exe.as_deref().map(Path::new).and_then(Path::file_name);
    name.map_or_else(
        || comm_text(&tally.comm),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn sender(key: &FlowKey, tally: &Tally, at_ns: u64) -> Sender {
    Sender {
        id: process_id(key),
        tid: tally.tid,
        comm: tally.comm,
        at_ns,
    }
}

/// Where a flow goes, as far as its channel has such a thing.
#[derive(Debug, Default)]
struct Destination {
    ip: Option<IpAddr>,
    cid: Option<u32>,
    cid_port: Option<u32>,
    path: Option<String>,
}

/// CID and port, as the kernel's key has them; CID 0 is nobody's.
fn vsock_peer(address: [u8; 16]) -> (Option<u32>, Option<u32>) {
    let word = |at: usize| {
        let bytes = address
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok());
        bytes.map(u32::from_be_bytes)
    };
    let cid = word(0).filter(|cid| *cid != 0);
    (cid, cid.and(word(4)))
}

pub(super) fn process_id(key: &FlowKey) -> ProcessId {
    ProcessId {
        pid: key.pid,
        start: key.process_start,
    }
}
