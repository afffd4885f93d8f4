//! Every process that may still have sent something: what it ran when, and who started it.
//!
//! Taking an event in twice changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    ProcessId,
    image::Image,
    lineage::{Above, Link},
    meter::{Meter, Metered},
    proc::{Proc, TICK_NS},
    retention::Rank,
    secrets,
};
use crate::{
    decode::process::{Executed, Forked, Kin, ProcessEvent, Program},
    record::Process,
    redact::Redactor,
};

/// Programs of one process that are remembered between two sweeps.
const IMAGES: usize = 64;

/// Parents that are looked up in `/proc` for one process.
const LOOKUPS: usize = 64;

/// What an entry takes besides what it shares: itself, and its places in two maps.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() + 128;

/// The processes of this machine, as far as they are remembered.
#[derive(Debug)]
pub struct Processes {
    proc: Proc,
    /// Applied before anything is kept.
    redactor: Redactor,
    pub(super) limit: usize,
    pub(super) meter: Meter,
    /// Usually one; the earlier ones with the same pid have ended.
    pub(super) by_pid: HashMap<u32, Vec<Entry>>,
    /// Who is forgotten first.
    pub(super) ranks: BTreeMap<Rank, ProcessId>,
    pub(super) next_rank: u64,
    /// When the last two tellings of flows began, CLOCK_MONOTONIC.
    pub(super) told_ns: [u64; 2],
    /// Forgotten although something of theirs may be on its way, by cgroup id.
    pub(super) evicted: HashMap<u64, u64>,
    pub(super) all_evicted: u64,
    /// Events were lost before this, CLOCK_MONOTONIC.
    lost_until_ns: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ProcessId,
    /// `/proc` tells the start in ticks only.
    is_exact: bool,
    /// Nothing has been heard of its fork.
    is_from_proc: bool,
    ns_pid: u32,
    pub(super) cgroup_id: u64,
    above: Above,
    /// Since when (CLOCK_MONOTONIC) it ran what; oldest first.
    pub(super) images: Vec<(u64, Arc<Image>)>,
    /// It runs what its maker ran.
    is_inherited: bool,
    pub(super) exited_ns: Option<u64>,
    pub(super) has_flows: bool,
    pub(super) rank: Rank,
    /// It as an ancestor, while it runs the same program in the same cgroup.
    link: Option<Arc<Link>>,
    started: Option<Timestamp>,
    _metered: Metered,
}

/// Who sent a flow, and when it was first seen.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    pub id: ProcessId,
    pub tid: u32,
    pub comm: [u8; 16],
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
}

impl Processes {
    /// Reads `/proc` where events do not suffice; takes `limit` bytes at most; keeps no secret that
    /// `redactor` knows.
    #[must_use]
    pub fn new(proc: Proc, limit: usize, redactor: Redactor) -> Self {
        Self {
            proc,
            redactor,
            limit,
            meter: Meter::default(),
            by_pid: HashMap::new(),
            ranks: BTreeMap::new(),
            next_rank: 0,
            told_ns: [0; 2],
            evicted: HashMap::new(),
            all_evicted: 0,
            lost_until_ns: 0,
        }
    }

    /// Takes in what runs now. Called when events are being kept already.
    pub fn scan(&mut self) {
        for pid in self.proc.pids() {
            self.read(ProcessId { pid, start: 0 });
        }
        self.make_room();
    }

    /// Takes one event in.
    pub fn apply(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Forked(forked) => self.forked(&forked),
            ProcessEvent::Executed(executed) => self.executed(*executed),
            ProcessEvent::Exited { at_ns, id } => self.exited(id, at_ns),
        }
        self.make_room();
    }

    /// Something is on its way from this process: it is looked up while it is there.
    pub fn sends(&mut self, id: ProcessId) {
        if self.find(id).is_none() {
            self.read(id);
            self.make_room();
        }
        self.keep_for_flows(id);
    }

    /// Events were lost before `until_ns`, CLOCK_MONOTONIC: what a process is said to run may be
    /// what it ran before.
    pub fn lost(&mut self, until_ns: u64) {
        self.lost_until_ns = self.lost_until_ns.max(until_ns);
    }

    /// Fills the fields of a record that tell about the process. `clock` turns nanoseconds since
    /// boot into a time; ancestors are told while they are `within` (cgroup id, pid).
    pub fn describe(
        &mut self,
        sender: &Sender,
        clock: impl Fn(u64) -> Timestamp,
        within: impl FnMut(u64, u32) -> bool,
        process: &mut Process,
    ) {
        if self.find(sender.id).is_none() {
            self.read(sender.id);
        }
        let image = self.image_of(sender);
        let Some(entry) = self.find(sender.id) else {
            process.started = (sender.id.start != 0).then(|| clock(sender.id.start));
            process.ancestors_cut = true;
            return;
        };
        process.ns_pid = Some(entry.ns_pid).filter(|ns_pid| ![0, sender.id.pid].contains(ns_pid));
        let start = entry.id.start;
        // Once and for all: clocks are set, and processes told apart by this.
        process.started = Some(*entry.started.get_or_insert_with(|| clock(start)));
        (process.ancestors, process.ancestors_cut) = entry.above.describe(within);
        if let Some(image) = image {
            image.describe(process);
        }
    }

    /// The executable that it ran when it sent.
    pub fn exe(&mut self, sender: &Sender) -> Option<String> {
        self.image_of(sender)?.exe()
    }

    /// What it ran when it sent.
    fn image_of(&mut self, sender: &Sender) -> Option<Arc<Image>> {
        let lost_until = self.lost_until_ns;
        let entry = self.find(sender.id)?;
        let last = entry
            .images
            .iter()
            .rposition(|(since, _)| *since <= sender.at_ns)?;
        let (since, image) = entry.images[last].clone();
        // exec changes the name of the thread that calls it, which is then the first one.
        let has_changed =
            image.comm != sender.comm && (entry.is_inherited || sender.tid == sender.id.pid);
        if since >= lost_until || !has_changed {
            return Some(image);
        }
        let found = self.proc.read(sender.id.pid, sender.id.start)?;
        let program = secrets::hide(found.program, &self.redactor);
        Some(Arc::new(Image::new(program, &self.meter)))
    }

    /// The entry of this very process, if there is one.
    pub(super) fn find(&mut self, id: ProcessId) -> Option<&mut Entry> {
        let entries = self.by_pid.get_mut(&id.pid)?;
        let found = entries.iter().rposition(|entry| entry.is(id))?;
        let entry = &mut entries[found];
        // A start in whole ticks is our own, out of `/proc`.
        if !entry.is_exact && !id.start.is_multiple_of(TICK_NS) {
            entry.is_exact = true;
            entry.id = id;
            self.ranks.insert(entry.rank, id);
        }
        Some(entry)
    }

    fn forked(&mut self, forked: &Forked) {
        let Kin { id, .. } = forked.kin;
        let image = self.running(forked.maker, forked.kin.cgroup_id);
        let above = self.above(&forked.kin);
        let images: Vec<_> = image
            .map(|image| (forked.at_ns, image))
            .into_iter()
            .collect();
        match self.find(id) {
            Some(entry) if entry.is_from_proc => {
                // Read a moment ago, after it had called exec maybe: events tell exactly.
                entry.images = images;
                entry.above = above;
                entry.is_from_proc = false;
                entry.is_inherited = true;
                entry.link = None;
            }
            Some(_told_before) => {}
            None => {
                self.end_earlier(id, forked.at_ns);
                let entry = self.insert(id, &forked.kin, above);
                entry.images = images;
                entry.is_inherited = true;
            }
        }
    }

    fn executed(
        &mut self,
        Executed {
            at_ns,
            kin,
            program,
        }: Executed,
    ) {
        if self.find(kin.id).is_none() {
            let above = self.above(&kin);
            self.end_earlier(kin.id, at_ns);
            self.insert(kin.id, &kin, above);
        }
        let meter = self.meter.clone();
        let program = secrets::hide(program, &self.redactor);
        let Some(entry) = self.find(kin.id) else {
            return;
        };
        entry.cgroup_id = kin.cgroup_id;
        entry.is_inherited = false;
        entry.link = None;
        let is_known = entry
            .images
            .last()
            .is_some_and(|(_, last)| last.runs(&program));
        match entry.images.as_mut_slice() {
            // Read after this had happened: what it ran before is not known.
            [(since, _)] if is_known && entry.is_from_proc && *since == 0 => *since = at_ns,
            _ if is_known => {}
            _ => {
                let place = entry.images.partition_point(|(since, _)| *since <= at_ns);
                let image = Arc::new(Image::new(program, &meter));
                entry.images.insert(place, (at_ns, image));
                self.limit_images(kin.id);
            }
        }
    }

    fn limit_images(&mut self, id: ProcessId) {
        let Some(entry) = self.find(id) else { return };
        if entry.images.len() > IMAGES {
            entry.images.remove(0);
            let cgroup_id = entry.cgroup_id;
            self.count_evicted(cgroup_id);
        }
    }

    fn exited(&mut self, id: ProcessId, at_ns: u64) {
        if let Some(entry) = self.find(id)
            && entry.exited_ns.is_none()
        {
            entry.exited_ns = Some(at_ns);
            self.rank_again(id);
        }
    }

    /// The pid was given to another process: whoever had it before has ended.
    fn end_earlier(&mut self, id: ProcessId, at_ns: u64) {
        let entries = self.by_pid.get(&id.pid).into_iter().flatten();
        let earlier: Vec<_> = entries
            .filter(|entry| entry.exited_ns.is_none())
            .map(|entry| entry.id)
            .collect();
        for id in earlier {
            self.exited(id, at_ns);
        }
    }

    /// What a process runs now.
    fn running(&mut self, id: ProcessId, cgroup_id: u64) -> Option<Arc<Image>> {
        if self.find(id).is_none() && cgroup_id != 0 {
            self.read(id);
        }
        let (_, image) = self.find(id)?.images.last()?;
        Some(image.clone())
    }

    /// The parent as an ancestor. One that is not known is looked up if it is in the same cgroup:
    /// beyond, ancestors are of no interest mostly.
    fn above(&mut self, kin: &Kin) -> Above {
        if kin.parent.pid == 0 {
            return Above::Top;
        }
        if self.find(kin.parent).is_none() && kin.parent_cgroup_id == kin.cgroup_id {
            self.read(kin.parent);
        }
        self.link(kin.parent, kin.parent_cgroup_id)
    }

    fn link(&mut self, id: ProcessId, cgroup_id: u64) -> Above {
        let meter = self.meter.clone();
        let Some(entry) = self.find(id) else {
            return Above::Parent(Link::new(id.pid, cgroup_id, None, Above::Unknown, &meter));
        };
        let known = entry.link.take().filter(|link| link.cgroup_id == cgroup_id);
        let link = known.unwrap_or_else(|| {
            let image = entry.images.last().map(|(_, image)| image.clone());
            Link::new(id.pid, cgroup_id, image, entry.above.clone(), &meter)
        });
        entry.link = Some(link.clone());
        Above::Parent(link)
    }

    /// Reads a process out of `/proc`, and before it those parents that are not known.
    fn read(&mut self, id: ProcessId) {
        let mut unknown = Vec::new();
        let mut next = id;
        while unknown.len() < LOOKUPS
            && next.pid != 0
            && self.find(next).is_none()
            && !self.is_reused(next)
            && let Some(found) = self.proc.read(next.pid, next.start)
        {
            next = ProcessId {
                pid: found.parent,
                start: 0,
            };
            unknown.push(found);
        }
        for found in unknown.into_iter().rev() {
            let above = match found.parent {
                0 => Above::Top,
                pid => self.link_now(pid),
            };
            let kin = Kin {
                id: found.id,
                ns_pid: found.ns_pid,
                cgroup_id: found.cgroup_id,
                parent: ProcessId::default(),
                parent_cgroup_id: 0,
            };
            self.insert_read(&kin, above, found.program);
        }
    }

    fn insert_read(&mut self, kin: &Kin, above: Above, program: Program) {
        let program = secrets::hide(program, &self.redactor);
        let image = Arc::new(Image::new(program, &self.meter));
        let entry = self.insert(kin.id, kin, above);
        entry.images = vec![(0, image)];
        entry.is_from_proc = true;
        entry.is_exact = false;
    }

    /// Whoever has this pid now, where it is now.
    fn link_now(&mut self, pid: u32) -> Above {
        let id = ProcessId { pid, start: 0 };
        let cgroup_id = self.find(id).map_or(0, |entry| entry.cgroup_id);
        self.link(id, cgroup_id)
    }

    /// Whether `/proc`, which tells starts in ticks, could mean another process than this one.
    fn is_reused(&self, id: ProcessId) -> bool {
        let entries = self.by_pid.get(&id.pid).into_iter().flatten();
        id.start != 0
            && entries
                .filter(|entry| entry.exited_ns.is_some())
                .any(|entry| entry.id.start / TICK_NS == id.start / TICK_NS)
    }

    fn insert(&mut self, id: ProcessId, kin: &Kin, above: Above) -> &mut Entry {
        let rank = self.new_rank(id);
        let entry = Entry {
            id,
            is_exact: true,
            is_from_proc: false,
            ns_pid: kin.ns_pid,
            cgroup_id: kin.cgroup_id,
            above,
            images: Vec::new(),
            is_inherited: false,
            exited_ns: None,
            has_flows: false,
            rank,
            link: None,
            started: None,
            _metered: self.meter.take(ENTRY_BYTES),
        };
        let entries = self.by_pid.entry(id.pid).or_default();
        entries.push(entry);
        let last = entries.len() - 1;
        &mut entries[last]
    }
}

impl Entry {
    /// Without a start, whoever has the pid now is meant.
    fn is(&self, id: ProcessId) -> bool {
        if id.start == 0 {
            return self.id.start == 0 || self.exited_ns.is_none();
        }
        self.id.start == id.start
            || (!self.is_exact && self.id.start / TICK_NS == id.start / TICK_NS)
    }
}

#[cfg(test)]
mod tests;
