//! `Observations`: everything that the records of one workload say, in bounded space.
//!
//! Merging is associative and commutative, so that the order and grouping of runs, files and
//! segments never shows in a policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    policy::{
        believed::{Believed, believed},
        model::Service,
        registry::Registry,
        seen::{Figures, Seen},
        tools::Tools,
        unaddressed::Unaddressed,
    },
    record::{Channel, Direction, Flow, Gap, GapKind, Place, Protocol, Record, Severity, Start},
};

/// Destinations kept per workload unless the caller says otherwise.
pub const DEFAULT_MAX_DESTINATIONS: usize = 65_536;
/// Kinds of gaps that are kept apart, and the letters of one that this version does not know.
const MAX_GAP_KINDS: usize = 64;
const MAX_GAP_KIND: usize = 40;

/// Where a flow went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    pub ip: IpAddr,
    pub service: Service,
}

/// One sequence of records, by its content: a log segment or an imported file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// SHA-256 of the uncompressed bytes, in lower-case hex.
    pub sha256: String,
    /// How many records it holds.
    pub records: u64,
}

/// Gap records of one kind, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapTally {
    pub records: u64,
    /// How many were lost, as far as the records say.
    pub lost: u64,
}

/// What the records of one workload say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observations {
    workload: String,
    max_destinations: usize,
    /// By where they went, the names by which that may be allowed, and the agent's tool, so that what
    /// one of them is evidence of never mixes with what another is, or with what none stands for.
    destinations: BTreeMap<(Destination, Believed, Option<Tools>), Seen>,
    runs: BTreeSet<Arc<str>>,
    sources: BTreeSet<Source>,
    open_source: Option<Source>,
    gaps: BTreeMap<(Severity, GapKind), GapTally>,
    missing_hooks: BTreeMap<String, String>,
    unaddressed: Unaddressed,
    registered: Registry,
    unclosed: u64,
    turned_away: u64,
    unplaced: u64,
}

impl Observations {
    /// Nothing observed yet. Of more than `max_destinations` the lowest addresses are kept.
    #[must_use]
    pub fn new(workload: impl Into<String>, max_destinations: usize) -> Self {
        Self {
            workload: workload.into(),
            max_destinations,
            destinations: BTreeMap::new(),
            runs: BTreeSet::new(),
            sources: BTreeSet::new(),
            open_source: None,
            gaps: BTreeMap::new(),
            missing_hooks: BTreeMap::new(),
            unaddressed: Unaddressed::default(),
            registered: Registry::default(),
            unclosed: 0,
            turned_away: 0,
            unplaced: 0,
        }
    }

    /// Takes in one record. The caller sees to it that the record is this workload's
    /// ([`Workloads`](super::Workloads) does so for many workloads).
    pub fn observe(&mut self, record: &Record) {
        match record {
            Record::Flow(entry) => self.observe_flow(&entry.run, &entry.body),
            Record::Gap(entry) => self.observe_gap(&entry.body),
            Record::Start(entry) => {
                self.add_run(&entry.run);
                self.observe_start(&entry.body);
            }
            Record::Stop(entry) => self.add_run(&entry.run),
            Record::Alias(_)
            | Record::Stats(_)
            | Record::Rotate(_)
            | Record::Dns(_)
            | Record::Drift(_) => {}
            Record::Registered(entry) => self.registered.add(&entry.body),
        }
    }

    /// Notes a run, whether or not anything left in it.
    pub fn add_run(&mut self, run: &str) {
        self.run(run);
    }

    /// Takes in one flow, ours or imported, that is a candidate's evidence.
    pub fn see(&mut self, run: &str, destination: Destination, figures: &Figures<'_>) {
        self.see_many(run, destination, figures, 1);
    }

    /// The same of `records` records together, whose sum `figures` are.
    pub fn see_many(
        &mut self,
        run: &str,
        destination: Destination,
        figures: &Figures<'_>,
        records: u64,
    ) {
        let run = self.run(run);
        self.add(&run, destination, figures, records);
    }

    /// Notes something that is known to be missing.
    pub fn add_gap(&mut self, gap: &Gap) {
        self.observe_gap(gap);
    }

    /// Takes all runs for one, called `run`.
    pub fn in_one_run(&mut self, run: &str) {
        let one: Arc<str> = Arc::from(run);
        let join = |runs: &mut BTreeSet<Arc<str>>| {
            if !runs.is_empty() {
                *runs = BTreeSet::from([Arc::clone(&one)]);
            }
        };
        join(&mut self.runs);
        let seen = self.destinations.values_mut();
        seen.for_each(|seen| join(&mut seen.runs));
    }

    /// Counts in what was observed elsewhere of the same workload, whose name stays this one's.
    pub fn merge(&mut self, other: &Self) {
        for (destination, seen) in &other.destinations {
            match self.destinations.get_mut(destination) {
                Some(known) => known.merge(seen),
                None => {
                    self.destinations.insert(destination.clone(), seen.clone());
                }
            }
        }
        self.runs.extend(other.runs.iter().cloned());
        self.sources.extend(other.sources().cloned());
        for (kind, tally) in &other.gaps {
            self.tally(kind.clone(), tally.records, tally.lost);
        }
        for (hook, unseen) in &other.missing_hooks {
            self.missing_hook(hook, unseen);
        }
        self.unaddressed.merge(&other.unaddressed);
        self.registered.merge(&other.registered);
        self.unclosed = self.unclosed.saturating_add(other.unclosed);
        self.turned_away = self.turned_away.saturating_add(other.turned_away);
        self.unplaced = self.unplaced.saturating_add(other.unplaced);
        self.max_destinations = self.max_destinations.min(other.max_destinations);
        self.cut();
    }

    /// The same observations, of at most so many destinations.
    #[must_use]
    pub fn within(mut self, max_destinations: usize) -> Self {
        self.max_destinations = self.max_destinations.min(max_destinations);
        self.cut();
        self
    }

    /// Notes a source that will not change any more.
    pub fn add_source(&mut self, source: Source) {
        self.sources.insert(source);
    }

    /// Sets or replaces what the segment being written holds so far; `None` when there is none.
    pub fn set_open_source(&mut self, source: Option<Source>) {
        self.open_source = source;
    }

    /// Leaves out what the sources were: for a segment that goes on growing.
    pub fn forget_sources(&mut self) {
        self.sources.clear();
    }

    /// Notes recordings that ended in neither `rotate` nor `stop`.
    pub fn add_unclosed(&mut self, recordings: u64) {
        self.unclosed = self.unclosed.saturating_add(recordings);
    }

    /// The same observations under another name.
    #[must_use]
    pub fn renamed(mut self, workload: impl Into<String>) -> Self {
        self.workload = workload.into();
        self
    }

    /// What the workload's agent has said of what it may use.
    #[must_use]
    pub fn registered(&self) -> &Registry {
        &self.registered
    }

    /// The workload's name.
    #[must_use]
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Candidate destinations in sorted order; one that was reached by several names or tools, or by
    /// one and without any, comes once for each.
    pub fn destinations(&self) -> impl ExactSizeIterator<Item = (&Destination, &Seen)> {
        let destinations = self.destinations.iter();
        destinations.map(|((destination, ..), seen)| (destination, seen))
    }

    /// How many runs were recorded, those without any flow among them.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Every run that was recorded.
    pub fn run_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.runs.iter()
    }

    /// Every source in sorted order, the open segment among them.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let open = self
            .open_source
            .iter()
            .filter(|open| !self.sources.contains(*open));
        let mut all: Vec<&Source> = self.sources.iter().chain(open).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// Known gaps by severity and kind.
    pub fn gaps(&self) -> impl Iterator<Item = (Severity, GapKind, GapTally)> {
        self.gaps
            .iter()
            .map(|((severity, kind), &tally)| (*severity, kind.clone(), tally))
    }

    /// Hooks that the recording kernels lacked, each with what was therefore not seen.
    #[must_use]
    pub fn missing_hooks(&self) -> &BTreeMap<String, String> {
        &self.missing_hooks
    }

    /// Ways out that no rule about addresses can allow or deny.
    #[must_use]
    pub fn unaddressed(&self) -> &Unaddressed {
        &self.unaddressed
    }

    /// Recordings that ended in neither `rotate` nor `stop`.
    #[must_use]
    pub fn unclosed(&self) -> u64 {
        self.unclosed
    }

    /// Records about destinations beyond the maximum.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Records that name no port although their protocol has ports.
    #[must_use]
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Why a destination may be missing, one sentence each; empty when the evidence is complete.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self
            .gaps()
            .filter(|(severity, ..)| *severity == Severity::Destinations)
            .map(|(_, kind, tally)| gap_reason(&kind, tally))
            .collect();
        let mut counted = |number: u64, what: &str| {
            if number > 0 {
                reasons.push(format!("{number} {what}"));
            }
        };
        counted(
            self.unclosed,
            "recording(s) ended in neither rotate nor stop",
        );
        counted(
            self.turned_away,
            "record(s) about destinations beyond the maximum left out",
        );
        counted(self.unplaced, "flow record(s) without a port left out");
        reasons
    }

    fn observe_flow(&mut self, run: &str, flow: &Flow) {
        let run = self.run(run);
        let Some(ip) = flow.dest_ip else {
            self.unaddressed.see(flow);
            return;
        };
        if !is_candidate(flow) {
            return;
        }
        let Some(service) = service(flow.protocol, flow.dest_port) else {
            self.unplaced = self.unplaced.saturating_add(1);
            return;
        };
        let destination = Destination { ip, service };
        self.add(&run, destination, &Figures::from(flow), 1);
    }

    fn add(
        &mut self,
        run: &Arc<str>,
        destination: Destination,
        figures: &Figures<'_>,
        records: u64,
    ) {
        let believed = believed(&destination, figures);
        let seen = self
            .destinations
            .entry((destination, believed, figures.tool.clone()))
            .or_insert_with_key(|(_, believed, tool)| Seen {
                believed: believed.clone(),
                tool: tool.clone(),
                ..Seen::default()
            });
        seen.add(run, figures);
        seen.records = seen.records.saturating_add(records.saturating_sub(1));
        self.cut();
    }

    fn observe_gap(&mut self, gap: &Gap) {
        let kind = bounded(&gap.what, self.gaps.len() < MAX_GAP_KINDS);
        self.tally((gap.severity, kind), 1, gap.lost.unwrap_or(0));
    }

    fn observe_start(&mut self, start: &Start) {
        for (hook, unseen) in &start.missing {
            self.missing_hook(hook, unseen);
        }
    }

    fn tally(&mut self, kind: (Severity, GapKind), records: u64, lost: u64) {
        let tally = self.gaps.entry(kind).or_default();
        tally.records = tally.records.saturating_add(records);
        tally.lost = tally.lost.saturating_add(lost);
    }

    /// Kernels may word it differently; the same word wins whatever the order.
    fn missing_hook(&mut self, hook: &str, unseen: &str) {
        match self.missing_hooks.get_mut(hook) {
            Some(known) if known.as_str() <= unseen => {}
            Some(known) => unseen.clone_into(known),
            None => {
                self.missing_hooks
                    .insert(hook.to_owned(), unseen.to_owned());
            }
        }
    }

    /// The one copy of a run's name. A record without a run belongs to none.
    fn run(&mut self, run: &str) -> Arc<str> {
        if let Some(known) = self.runs.get(run) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(run);
        if !run.is_empty() {
            self.runs.insert(Arc::clone(&name));
        }
        name
    }

    /// Keeps the lowest destinations. One that is evicted can never be among the lowest again, so
    /// the figures of those that are kept are whole, and what is left out is the same in any order.
    fn cut(&mut self) {
        while self.destinations.len() > self.max_destinations {
            if let Some((_, seen)) = self.destinations.pop_last() {
                self.turned_away = self.turned_away.saturating_add(seen.records);
            }
        }
    }
}

/// A kind that this version does not know is a text out of a file: short, few and harmless.
fn bounded(kind: &GapKind, has_room: bool) -> GapKind {
    let GapKind::Other(text) = kind else {
        return kind.clone();
    };
    if !has_room {
        return GapKind::Other("more".to_owned());
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let shown = |letter| if plain(letter) { letter } else { '?' };
    GapKind::Other(text.chars().take(MAX_GAP_KIND).map(shown).collect())
}

fn gap_reason(kind: &GapKind, tally: GapTally) -> String {
    let what = match kind {
        GapKind::FlowTable => "the kernel's flow table was full",
        GapKind::CgroupQuota => "the workload's share of the flow table was used up",
        GapKind::Ring => "the ring buffer was full",
        GapKind::SocketStorage => "sockets could not be remembered",
        GapKind::Undecodable => "the kernel sent what this version cannot read",
        GapKind::Downtime => "the tracer was not running",
        GapKind::SegmentDeleted => "a log segment was deleted",
        GapKind::LogWrite => "the log could not be written",
        GapKind::Process => "processes were not followed",
        GapKind::OtherKernel => "the container has a kernel of its own, which is not seen",
        GapKind::UnknownCgroup => "flows came from cgroups of which nothing is known",
        GapKind::Names => "container engines were not asked",
        GapKind::Translation => "what left in place of a destination was not noted",
        GapKind::Preexisting => "connections that were open already could not be listed",
        GapKind::Replaced => "the tracer was replaced by one that could not go on with its tables",
        GapKind::NotAttached => "hooks could not be attached to a container",
        GapKind::Replies => "not every reply of a server was told, or told from what was asked for",
        GapKind::Outcomes => "what became of connections was not counted",
        GapKind::Wire => "not all of what was said on the wire was read",
        GapKind::Connections => "more connections at a time than are followed",
        GapKind::Other(kind) => &format!("something that this version does not know: {kind}"),
        GapKind::Drift => "not every drift was told",
        GapKind::Tools => "tool calls could not be told apart",
    };
    let GapTally { records, lost } = tally;
    match lost {
        0 => format!("{what} ({records} gap record(s))"),
        1.. => format!("{what} ({records} gap record(s), {lost} lost)"),
    }
}

/// Whether a flow asks for a rule: it is egress, it left the host's own loopback, and something
/// was sent. What was asked to stay inside may have been sent outside.
fn is_candidate(flow: &Flow) -> bool {
    let inside = match flow.translated {
        None => true,
        Some(translated) => stays_inside(translated.ip),
    };
    let inside = inside && asked_to_stay_inside(flow);
    flow.direction == Direction::Egress && flow.channel != Channel::UdpProbe && !inside
}

fn asked_to_stay_inside(flow: &Flow) -> bool {
    match flow.place {
        Some(Place::Loopback | Place::Unspecified) => true,
        Some(
            Place::LinkLocal
            | Place::Metadata
            | Place::Private
            | Place::Shared
            | Place::Multicast
            | Place::Broadcast
            | Place::Documentation,
        )
        | None => flow.dest_ip.is_some_and(stays_inside),
    }
}

/// Whether packets to `address` never leave the host.
#[must_use]
pub fn stays_inside(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// What is allowed where `protocol` goes to `port`; `None` if the port that it needs is missing.
#[must_use]
pub fn service(protocol: Protocol, port: Option<u16>) -> Option<Service> {
    if protocol.has_ports() {
        port.map(|port| Service::Port { protocol, port })
    } else {
        Some(Service::Protocol {
            protocol,
            kind: None,
        })
    }
}
