//! The one owner of the aggregation: takes batches in, writes records out.
//!
//! | file | defines |
//! |---|---|
//! | `counters` | what it has done so far |
//! | `drift` | what no approval covers |
//! | `flows` | flows as records |
//! | `gaps` | what is known to be missing |
//! | `hooks` | those of chosen containers, asked for and missing |
//! | `runs` | runs and their logs |
//! | `sockets` | Unix sockets: what they are called, and which of them lead out |
//! | `tools` | on whose behalf flows were |
//! | `wire` | DNS exchanges as records, and the names of flows |

mod counters;
mod drift;
mod flows;
mod gaps;
mod hooks;
mod runs;
mod sockets;
mod tools;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracer_common::{
    flow::{FlowKey, FlowValue},
    translation::Translation,
};

use super::{
    account::{Account, Book, Waiting},
    drift::Watch,
    losses::{host_rewrites, translations},
    preexisting::Preexisting,
    recorded::Recorded,
    rewrites::Rewrites,
    spans::Spans,
    table::Table,
    wire::Wire,
    workload::{Continuity, Keeping, Workload, WorkloadError},
};
use crate::{
    decode::{event::Event, process::ProcessEvent},
    ebpf::{
        batch::{Batch, Command, SweepReason},
        clock::{Clock, ClockSample},
        load::{ANSWER_HOOK, OUTCOME_HOOK},
        losses::Losses,
        sys,
    },
    enrich::{
        around::Around,
        cgroup::is_below,
        engine::Answer,
        machine::Machine,
        process::{proc::Proc, table::Processes},
    },
    mark::Shared,
    record::{Gap, Start},
    redact::Redactor,
};
use counters::Counters;
use flows::process_id;
use hooks::Hooks;
use sockets::Sockets;
use wire::Unwritten;

/// Runs that are remembered after they have ended.
const ENDED: usize = 1024;

/// A workload with news tells the counters at most this often.
const STATS_INTERVAL: Duration = Duration::from_secs(60);

/// Where records go.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: Arc<str>,
    pub output: Output,
    pub keeping: Keeping,
    /// What happened since the recording before this one.
    pub continuity: Continuity,
    /// Flows held before they are written ahead of time.
    pub table_limit: usize,
    /// What every `start` record says.
    pub start: Start,
    /// Bytes for what is known of processes.
    pub process_memory: usize,
    /// What is hidden in everything that is written.
    pub redactor: Redactor,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup_mount: PathBuf,
    /// Whether a list of what was open before will come.
    pub expects_inventory: bool,
}

/// How the files are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing is written.
    Memory,
    /// One workload, directly in the directory.
    Flat(PathBuf),
    /// A directory for each workload.
    PerWorkload(PathBuf),
}

/// Whose flows are being recorded.
#[derive(Debug)]
pub enum Subject {
    /// One command: all that happens below its cgroup is its own.
    Command {
        workload: Arc<str>,
        run: Arc<str>,
        cgroups: Box<crate::enrich::cgroup::CgroupIndex>,
        /// Its cgroup, relative to the hierarchy's root.
        cgroup: String,
    },
    /// Everything on this machine, or a choice of it.
    Machine(Box<Machine>),
}

/// Takes batches in, writes records out.
#[derive(Debug)]
pub struct Recorder {
    pub(super) settings: Settings,
    pub(super) subject: Subject,
    proc: PathBuf,
    processes: Processes,
    pub(super) table: Table,
    wire: Wire,
    unwritten: Unwritten,
    clock: Clock,
    pub(super) losses: Losses,
    pub(super) workloads: BTreeMap<Arc<str>, Recorded>,
    preexisting: Preexisting,
    rewrites: Rewrites,
    sockets: Sockets,
    around: Around,
    /// Runs that this process has ended, the most recent ones.
    ended: VecDeque<Arc<str>>,
    counters: Counters,
    /// For the next daemon; `None` if nothing outlives this process.
    pub(super) book: Option<Book>,
    /// The last sweep that was taken in.
    pub(super) generation: u64,
    /// What is told to workloads that are new while counts from before are being told.
    pub(super) uncertain: Option<Gap>,
    hooks: Hooks,
    /// The logs were moved away.
    is_reopening: bool,
    /// Holds flows against policies, if anybody asked for it.
    drift: Option<Watch>,
    /// What agents export, if anybody listens for it.
    spans: Option<Spans>,
    /// Flows are told whether or not their spans may have come.
    is_ending: bool,
    /// Knows on whose behalf flows are, if anybody listens.
    marks: Option<Shared>,
}

impl Recorder {
    #[must_use]
    pub fn new(settings: Settings, subject: Subject, proc: &Path) -> Self {
        let read = Proc {
            root: proc.to_owned(),
            cgroups: settings.cgroup_mount.clone(),
        };
        let preexisting = match settings.expects_inventory {
            true => Preexisting::default(),
            false => Preexisting::never(),
        };
        let lacks = |hook| settings.start.missing.contains_key(hook);
        let table = Table::new(lacks(OUTCOME_HOOK), lacks(ANSWER_HOOK));
        Self {
            processes: Processes::new(read, settings.process_memory, settings.redactor.clone()),
            settings,
            subject,
            proc: proc.to_owned(),
            table,
            wire: Wire::default(),
            unwritten: Unwritten::default(),
            clock: Clock::new(ClockSample::now()),
            losses: Losses::default(),
            workloads: BTreeMap::new(),
            preexisting,
            rewrites: Rewrites::new(sys::own_netns_cookie().unwrap_or(0)),
            sockets: Sockets::default(),
            around: Around::default(),
            ended: VecDeque::new(),
            counters: Counters::default(),
            book: None,
            generation: 0,
            uncertain: None,
            hooks: Hooks::default(),
            is_reopening: false,
            drift: None,
            spans: None,
            is_ending: false,
            marks: None,
        }
    }

    /// Says of flows what agents' spans say of their time.
    pub fn listen_to(&mut self, spans: Spans) {
        self.spans = Some(spans);
    }

    /// Asks for hooks on the cgroups of selected containers, below `mount`.
    pub fn watch_with(&mut self, commands: mpsc::Sender<Command>, mount: &Path) {
        self.hooks.watch_with(commands, mount);
    }

    /// Begins what is known from the start: the command's run, or the containers that are there.
    ///
    /// # Errors
    /// An output directory cannot be written.
    pub fn begin(&mut self) -> Result<(), WorkloadError> {
        match &self.subject {
            // Nothing runs in its cgroup yet.
            Subject::Command { workload, run, .. } => {
                let (workload, run) = (workload.clone(), run.clone());
                self.workload(&workload, &run)?;
            }
            Subject::Machine(_) => self.processes.scan(),
        }
        self.tell_changes()
    }

    /// Looks whether somebody has set the clock, or the machine slept: the sooner this is noticed, the
    /// fewer times are told by the wrong one.
    pub fn look_at_the_clock(&mut self) {
        self.clock.take(ClockSample::now());
    }

    /// Takes one batch in. Says why the kernel was swept, if it was.
    ///
    /// # Errors
    /// An output directory cannot be written.
    pub fn take(
        &mut self,
        batch: Batch,
        now: Instant,
    ) -> Result<Option<SweepReason>, WorkloadError> {
        match batch {
            Batch::News(events) => {
                self.counters.news += events.len() as u64;
                events.into_iter().for_each(|event| self.hear(event, now));
                self.ask_drift();
                self.tell_changes()?;
                Ok(None)
            }
            Batch::Processes(events) => {
                self.counters.process_events += events.len() as u64;
                events.into_iter().for_each(|event| self.follow(event));
                Ok(None)
            }
            Batch::Wire(pieces) => {
                self.take_wire(pieces);
                Ok(None)
            }
            Batch::Counts(counts, clock) => {
                self.clock.take(clock);
                self.absorb(&counts, now);
                Ok(None)
            }
            Batch::Translations(all) => {
                self.translate(&all);
                Ok(None)
            }
            Batch::Open(said) => {
                self.table.said_so_far(&said);
                Ok(None)
            }
            Batch::Answers(answers) => {
                self.table.answer(&answers);
                Ok(None)
            }
            Batch::SocketNames(names) => {
                self.sockets.learn(names);
                Ok(None)
            }
            Batch::Rewritten(listing) => {
                self.rewrites.listed(listing);
                Ok(None)
            }
            Batch::Preexisting(inventory) => {
                self.take_inventory(&inventory, now)?;
                Ok(None)
            }
            Batch::Swept {
                losses,
                reason,
                began,
                generation,
            } => {
                self.counters.sweeps += 1;
                self.generation = generation;
                self.table.swept();
                self.translate_by_host();
                let began_ns = began.monotonic_ns();
                if self.losses.processes() != losses.processes() {
                    self.processes.lost(began_ns);
                }
                self.swept(losses, reason, now)?;
                self.tell_lost_calls(began_ns)?;
                if std::mem::take(&mut self.is_reopening) {
                    self.reopen_logs();
                }
                self.forget_processes(reason, began_ns);
                Ok(Some(reason))
            }
            Batch::Attached { cgroup_id, at_ns } => {
                self.attached(cgroup_id, at_ns)?;
                Ok(None)
            }
            Batch::CameAndWent { cgroup_id } => {
                self.came_and_went(cgroup_id)?;
                Ok(None)
            }
            Batch::NotAttached { cgroup_id, reason } => {
                self.not_attached(cgroup_id, &reason)?;
                Ok(None)
            }
        }
    }

    pub(super) fn absorb(&mut self, counts: &[(FlowKey, FlowValue)], now: Instant) {
        self.counters.counted_keys += counts.len() as u64;
        self.rewrites.departed(counts);
        for (key, value) in counts {
            // What only became of earlier attempts says nothing new of who made them.
            if value.count > 0 || value.connects > 0 {
                self.learn(key, now);
                self.processes.sends(process_id(key));
                self.preexisting.counted(key);
            }
            self.table.absorb(key, value);
        }
        self.counters.outcomes_unmatched += self.table.take_unmatched();
    }

    pub(super) fn translate(&mut self, translations: &[Translation]) {
        translations
            .iter()
            .for_each(|each| self.table.translate(each));
    }

    /// What the host has made of flows whose counts are all in by now.
    fn translate_by_host(&mut self) {
        for (key, sent) in self.rewrites.swept() {
            if !self.table.translate_by_host(&key, sent.address, sent.port) {
                self.rewrites.turned_away();
            }
        }
    }

    /// The container engine has answered.
    ///
    /// # Errors
    /// An output directory cannot be written.
    pub fn answered(&mut self, answer: Answer) -> Result<(), WorkloadError> {
        if let Subject::Machine(machine) = &mut self.subject {
            let id = answer.info.is_some().then(|| answer.id.clone());
            machine.named(answer);
            if let (Some(book), Some(id)) = (&mut self.book, id) {
                let known = machine.memory().find(|known| known.id == id);
                known.into_iter().for_each(|known| book.named(known));
            }
        }
        self.tell_changes()
    }

    /// Opens every log again with the next sweep: before that, counts may have been taken in of
    /// which the account cannot say whether they are told.
    pub fn reopen(&mut self) {
        self.is_reopening = true;
    }

    fn reopen_logs(&mut self) {
        // What was moved away is not to be told again.
        self.settle_account();
        for (name, recorded) in &mut self.workloads {
            recorded.workload.reopen();
            if let (Some(book), Some(mark)) = (&mut self.book, recorded.mark()) {
                book.opened(name, mark);
            }
        }
    }

    /// Ends every run and writes the last candidates.
    ///
    /// # Errors
    /// The disk refuses; everything is tried before the first error is returned.
    pub fn finish(&mut self, reason: &str, exit_code: Option<i32>) -> io::Result<()> {
        self.open_missing_logs();
        let counters = self.counters();
        let mut result = Ok(());
        for recorded in self.workloads.values_mut() {
            recorded.tell_stats(&counters);
            for run in recorded.workload.open_runs() {
                recorded.workload.end(&run, reason, exit_code);
            }
            recorded.write_out();
            result = result.and(recorded.workload.close());
        }
        self.settle_account();
        match self.counters.without_log {
            0 => result,
            count => result.and(Err(io::Error::other(format!(
                "{count} workload(s) could not be written, each was told when it began"
            )))),
        }
    }

    /// What was observed, by workload.
    pub fn workloads(&self) -> impl Iterator<Item = (&str, &Workload)> {
        self.workloads
            .iter()
            .map(|(name, recorded)| (&**name, &recorded.workload))
    }

    pub(super) fn hear(&mut self, event: Event, now: Instant) {
        match event {
            Event::NewFlow { key, .. } => {
                self.learn(&key, now);
                self.hear_drift(&key);
                // Read while the process is there, where nothing has been heard of it.
                self.processes.sends(process_id(&key));
            }
            Event::KeyAgain => {}
            Event::CgroupCreated { cgroup_id, path } => match &mut self.subject {
                Subject::Machine(machine) => machine.cgroup_created(cgroup_id, path, now),
                Subject::Command { cgroups, .. } => {
                    cgroups.created(cgroup_id, path);
                }
            },
            Event::CgroupRemoved { cgroup_id, path } => {
                self.table.cgroup_gone(cgroup_id);
                match &mut self.subject {
                    Subject::Machine(machine) => machine.cgroup_removed(cgroup_id, path, now),
                    Subject::Command { cgroups, .. } => cgroups.removed(cgroup_id),
                }
            }
        }
    }

    /// A command's recording is about the processes of its cgroup alone.
    fn follow(&mut self, event: ProcessEvent) {
        if let Subject::Command {
            cgroups, cgroup, ..
        } = &self.subject
            && let Some(cgroup_id) = event.cgroup_id()
            // One that was made a moment ago is not known yet.
            && let Some(found) = cgroups.known(cgroup_id)
            && !is_below(&found.path, cgroup)
        {
            return;
        }
        self.hooks.follow(&event);
        self.processes.apply(event);
    }

    fn forget_processes(&mut self, reason: SweepReason, began_ns: u64) {
        self.processes.swept(began_ns);
        // Flows that wait for spans are told later by as much.
        let waiting_ns = self.spans.as_ref().map_or(0, Spans::wait_ns);
        match reason {
            SweepReason::Interval => self.processes.told(began_ns.saturating_sub(waiting_ns)),
            SweepReason::Pressure | SweepReason::News | SweepReason::End => {}
        }
    }

    fn learn(&mut self, key: &FlowKey, now: Instant) {
        if let Subject::Machine(machine) = &mut self.subject {
            machine.learn(key, now);
        }
    }

    fn swept(
        &mut self,
        losses: Losses,
        reason: SweepReason,
        now: Instant,
    ) -> Result<(), WorkloadError> {
        let is_full = self.table.len() > self.settings.table_limit;
        // What is being taken in by now was counted before the programs were told to stop.
        self.table
            .give_up(self.clock.monotonic_ns(), reason == SweepReason::End);
        if let Subject::Machine(machine) = &mut self.subject {
            match reason {
                // Nothing will follow, or there is no room to wait.
                SweepReason::End => machine.settle_all(),
                SweepReason::Pressure if is_full => machine.settle_all(),
                SweepReason::Pressure | SweepReason::News | SweepReason::Interval => {
                    machine.settle_overdue(now);
                }
            }
        }
        self.tell_losses(losses)?;
        if let Some(affected) = translations(self.table.take_turned_away()) {
            self.tell_gap(affected)?;
        }
        if let Some(affected) = host_rewrites(self.rewrites.take_lost()) {
            self.tell_gap(affected)?;
        }
        match reason {
            SweepReason::Interval => {
                self.tell_registered()?;
                self.tell_dns(false)?;
                self.tell_flows()?;
                self.tell_untold_drift()?;
                self.tell_changes()?;
                self.forget_not_chosen();
                self.write_out(now);
                self.settle_account();
                self.uncertain = None;
            }
            // At the end `finish` writes out.
            SweepReason::End => {
                self.is_ending = true;
                self.tell_registered()?;
                self.tell_dns(true)?;
                self.tell_flows()?;
                self.tell_changes()?;
            }
            SweepReason::News => {
                self.tell_flows()?;
                self.tell_changes()?;
                self.settle_account();
            }
            SweepReason::Pressure if is_full => {
                self.tell_dns(false)?;
                self.tell_flows()?;
                self.tell_changes()?;
                self.settle_account();
            }
            SweepReason::Pressure => {}
        }
        Ok(())
    }

    /// Descriptors may have been wanting, or a disk.
    fn open_missing_logs(&mut self) {
        for (name, recorded) in &mut self.workloads {
            if !recorded.lacks_log {
                continue;
            }
            match recorded.open_again(&self.settings, name) {
                Ok(()) => {
                    self.counters.without_log -= 1;
                    tracing::info!(workload = %name, "its log is written from now on");
                    if let (Some(book), Some(mark)) = (&mut self.book, recorded.mark()) {
                        book.opened(name, mark);
                    }
                }
                Err(error) => tracing::debug!(workload = %name, "still without a log: {error}"),
            }
        }
    }

    fn write_out(&mut self, now: Instant) {
        self.open_missing_logs();
        let counters = self.counters();
        for recorded in self.workloads.values_mut() {
            let is_due = recorded
                .told_stats
                .is_none_or(|told| now.duration_since(told) >= STATS_INTERVAL);
            if recorded.workload.has_news() && is_due {
                recorded.told_stats = Some(now);
                recorded.tell_stats(&counters);
            }
            self.ended.extend(recorded.end_runs());
            recorded.write_out();
        }
        while self.ended.len() > ENDED {
            self.ended.pop_front();
        }
        // A workload without a run gives its file back; it is opened again when it returns.
        self.workloads
            .retain(|_, recorded| recorded.is_running() || recorded.lacks_log || !recorded.close());
    }

    /// Says for the next daemon what the logs hold by now.
    pub(super) fn settle_account(&mut self) {
        let Some(mut book) = self.book.take() else {
            return;
        };
        let mut account = Account {
            generation: self.generation,
            losses: self.losses.clone(),
            ..Account::default()
        };
        for (name, recorded) in &mut self.workloads {
            let mark = recorded.mark();
            // Also while only the candidates are behind: the next daemon is to write them.
            let is_running = recorded.is_running();
            account.logs.extend(
                mark.filter(|_| is_running)
                    .map(|mark| (name.to_string(), mark)),
            );
        }
        for (key, tally) in self.table.untold() {
            account.waiting.push(Waiting::new(key, tally));
        }
        if let Subject::Machine(machine) = &self.subject {
            let ids: BTreeSet<u64> = self.table.untold().map(|(key, _)| key.cgroup_id).collect();
            let path = |id: u64| Some((id, machine.cgroup_path(id)?.to_owned()));
            account.cgroups = ids.into_iter().filter_map(path).collect();
            account.containers = machine.memory().collect();
        }
        book.save(account);
        self.book = Some(book);
    }
}
