//! The one owner of the aggregation: takes batches in, writes records out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tracer_common::{
    flow::{FlowKey, FlowValue, channel},
    limits::loss,
};

use tokio::sync::mpsc;

use super::{
    account::{Account, Book, Waiting},
    losses::{Affected, forgotten, gaps, translations},
    preexisting::{self, Preexisting},
    recorded::Recorded,
    table::{Left, Table, Tally, Told},
    workload::{Continuity, Keeping, Workload, WorkloadError},
};
use crate::{
    decode::{
        event::Event,
        process::{ProcessEvent, ProcessId},
    },
    ebpf::capture::{Batch, ClockSample, Command, Losses, SweepReason},
    enrich::{
        cgroup::is_below,
        engine::Answer,
        machine::{Attribution, Change, Concerned, Machine, Origin},
        process::{
            image::comm_text,
            proc::Proc,
            table::{Processes, Sender},
        },
    },
    inventory::Inventory,
    place::place,
    record::{
        Channel, Direction, Flow, Gap, GapKind, Outcome, Process, Protocol, Record, Severity,
        Start, Translated, ip_from_mapped,
    },
    redact::Redactor,
};

/// Runs that are remembered after they have ended.
const ENDED: usize = 1024;

/// A workload with news tells the counters at most this often.
const STATS_INTERVAL: Duration = Duration::from_secs(60);

/// `IPPROTO_MPTCP`: TCP, on the wire and in every rule.
const MPTCP: u16 = 262;

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
    clock: ClockSample,
    pub(super) losses: Losses,
    pub(super) workloads: BTreeMap<Arc<str>, Recorded>,
    preexisting: Preexisting,
    /// Runs that this process has ended, the most recent ones.
    ended: VecDeque<Arc<str>>,
    counters: Counters,
    /// For the next daemon; `None` if nothing outlives this process.
    pub(super) book: Option<Book>,
    /// The last sweep that was taken in.
    pub(super) generation: u64,
    /// What is told to workloads that are new while counts from before are being told.
    pub(super) uncertain: Option<Gap>,
    /// Where hooks are asked for, and the mount of the cgroups that are to have them.
    watching: Option<(mpsc::Sender<Command>, PathBuf)>,
}

/// What this process has done so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Workloads whose log could not be opened.
    without_log: u64,
    news: u64,
    counted_keys: u64,
    process_events: u64,
    sweeps: u64,
    /// Cgroups to which hooks could not be attached.
    not_attached: u64,
}

impl Counters {
    /// One workload's log must not cost the others theirs: it is observed in memory, and the end
    /// of the recording says so. A recording of one workload alone fails.
    fn without_log(
        &mut self,
        settings: &Settings,
        name: &Arc<str>,
        run: &Arc<str>,
        error: WorkloadError,
    ) -> Result<Recorded, WorkloadError> {
        if matches!(settings.output, Output::Flat(_)) {
            return Err(error);
        }
        self.without_log += 1;
        tracing::error!(workload = %name, "nothing of this workload is written: {error}");
        let settings = Settings {
            output: Output::Memory,
            ..settings.clone()
        };
        Recorded::open(&settings, name, run, None)
    }
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
        Self {
            processes: Processes::new(read, settings.process_memory, settings.redactor.clone()),
            settings,
            subject,
            proc: proc.to_owned(),
            table: Table::default(),
            clock: ClockSample::now(),
            losses: Losses::default(),
            workloads: BTreeMap::new(),
            preexisting,
            ended: VecDeque::new(),
            counters: Counters::default(),
            book: None,
            generation: 0,
            uncertain: None,
            watching: None,
        }
    }

    /// Asks for hooks on the cgroups of selected containers, below `mount`.
    pub fn watch_with(&mut self, commands: mpsc::Sender<Command>, mount: &Path) {
        self.watching = Some((commands, mount.to_owned()));
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
                self.tell_changes()?;
                Ok(None)
            }
            Batch::Processes(events) => {
                self.counters.process_events += events.len() as u64;
                events.into_iter().for_each(|event| self.follow(event));
                Ok(None)
            }
            Batch::Counts(counts, clock) => {
                self.clock = clock;
                self.absorb(&counts, now);
                Ok(None)
            }
            Batch::Translations(all) => {
                all.iter().for_each(|each| self.table.translate(each));
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
                let began_ns = began.monotonic_ns();
                if self.losses.processes() != losses.processes() {
                    self.processes.lost(began_ns);
                }
                self.swept(losses, reason, now)?;
                self.forget_processes(reason, began_ns);
                Ok(Some(reason))
            }
            Batch::NotAttached { cgroup_id, reason } => {
                self.not_attached(cgroup_id, &reason)?;
                Ok(None)
            }
        }
    }

    pub(super) fn absorb(&mut self, counts: &[(FlowKey, FlowValue)], now: Instant) {
        self.counters.counted_keys += counts.len() as u64;
        for (key, value) in counts {
            self.learn(key, now);
            self.processes.sends(process_id(key));
            self.preexisting.counted(key);
            self.table.absorb(key, value);
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

    /// Opens every log again.
    pub fn reopen(&mut self) {
        // What was moved away is not to be told again.
        self.settle_account();
        for recorded in self.workloads.values_mut() {
            recorded.workload.reopen();
        }
        self.settle_account();
    }

    /// Ends every run and writes the last candidates.
    ///
    /// # Errors
    /// The disk refuses; everything is tried before the first error is returned.
    pub fn finish(&mut self, reason: &str, exit_code: Option<i32>) -> io::Result<()> {
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
                // Read while the process is there, where nothing has been heard of it.
                self.processes.sends(process_id(&key));
            }
            Event::CgroupCreated { cgroup_id, path } => match &mut self.subject {
                Subject::Machine(machine) => machine.cgroup_created(cgroup_id, path, now),
                Subject::Command { cgroups, .. } => {
                    cgroups.created(cgroup_id, path);
                }
            },
            Event::CgroupRemoved { cgroup_id, path } => match &mut self.subject {
                Subject::Machine(machine) => machine.cgroup_removed(cgroup_id, path, now),
                Subject::Command { cgroups, .. } => cgroups.removed(cgroup_id),
            },
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
        self.processes.apply(event);
    }

    fn forget_processes(&mut self, reason: SweepReason, began_ns: u64) {
        self.processes.swept(began_ns);
        match reason {
            SweepReason::Interval => self.processes.told(began_ns),
            SweepReason::Pressure | SweepReason::End => {}
        }
    }

    fn learn(&mut self, key: &FlowKey, now: Instant) {
        if let Subject::Machine(machine) = &mut self.subject {
            machine.learn(key, now);
        }
    }

    /// Takes in what was open before the hooks were there.
    fn take_inventory(&mut self, inventory: &Inventory, now: Instant) -> Result<(), WorkloadError> {
        for socket in self.preexisting.news(inventory) {
            self.learn(&socket.key, now);
            if socket.key.pid != 0 {
                self.processes.sends(process_id(&socket.key));
            }
            self.table
                .absorb_open(&socket.key, &socket.value, socket.is_established);
        }
        let found = preexisting::gaps(inventory, |cgroup_id| self.concerned(cgroup_id));
        for affected in found {
            if affected.workload.is_none() {
                self.preexisting.for_everybody.push(affected.gap.clone());
            }
            self.tell_gap(affected)?;
        }
        Ok(())
    }

    fn concerned(&mut self, cgroup_id: u64) -> Concerned {
        match &mut self.subject {
            Subject::Machine(machine) => machine.concerned(cgroup_id),
            Subject::Command { workload, .. } => Concerned::Workload(workload.clone()),
        }
    }

    fn swept(
        &mut self,
        losses: Losses,
        reason: SweepReason,
        now: Instant,
    ) -> Result<(), WorkloadError> {
        let is_full = self.table.len() > self.settings.table_limit;
        if let Subject::Machine(machine) = &mut self.subject {
            match reason {
                // Nothing will follow, or there is no room to wait.
                SweepReason::End => machine.settle_all(),
                SweepReason::Pressure if is_full => machine.settle_all(),
                SweepReason::Pressure | SweepReason::Interval => machine.settle_overdue(now),
            }
        }
        self.tell_losses(losses)?;
        if let Some(affected) = translations(self.table.take_turned_away()) {
            self.tell_gap(affected)?;
        }
        match reason {
            SweepReason::Interval => {
                self.tell_flows()?;
                self.tell_changes()?;
                self.write_out(now);
                self.settle_account();
                self.uncertain = None;
            }
            // At the end `finish` writes out.
            SweepReason::End => {
                self.tell_flows()?;
                self.tell_changes()?;
            }
            SweepReason::Pressure if is_full => {
                self.tell_flows()?;
                self.tell_changes()?;
                self.settle_account();
            }
            SweepReason::Pressure => {}
        }
        Ok(())
    }

    fn write_out(&mut self, now: Instant) {
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
            .retain(|_, recorded| recorded.is_running() || !recorded.close());
    }

    /// Writes what is new. A log is rotated between two flows, at a moment when the account says
    /// how far each log goes: what a closed segment has is never told again.
    fn tell_flows(&mut self) -> Result<(), WorkloadError> {
        loop {
            self.tell_until_full()?;
            if !self.rotate_full() {
                return Ok(());
            }
        }
    }

    fn rotate_full(&mut self) -> bool {
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
            let is_open = recorded.workload.has_open_runs();
            account.logs.extend(
                mark.filter(|_| is_open)
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

    fn tell_until_full(&mut self) -> Result<(), WorkloadError> {
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
                Attribution::Known(origin) => origin,
            };
            for told in told {
                let flow = self.flow(key, tally, told, &origin);
                match self.tell_flow(flow, &origin) {
                    Ok(full) => is_full |= full,
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

    fn attribute(&mut self, key: &FlowKey, tally: &Tally) -> Attribution {
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

    fn flow(&mut self, key: &FlowKey, tally: &Tally, told: &Told, origin: &Origin) -> Flow {
        let protocol = match key.protocol {
            MPTCP => Protocol::TCP,
            number => Protocol(u8::try_from(number).unwrap_or(u8::MAX)),
        };
        let dest_ip = ip_from_mapped(key.address);
        let port_of = |port| protocol.has_ports().then_some(port);
        let translated = |left: Left| Translated {
            ip: ip_from_mapped(left.address),
            port: port_of(left.port),
        };
        Flow {
            protocol,
            dest_ip,
            dest_port: port_of(key.port),
            names: Vec::new(),
            channel: told.channel,
            direction: match key.channel {
                channel::PREEXISTING_REPLY => Direction::Reply,
                _others => Direction::Egress,
            },
            place: place(dest_ip),
            translated: told.translated.map(translated),
            via: origin.via,
            outcomes: outcomes(told),
            count: told.count,
            bytes_sent: None,
            bytes_received: None,
            first_seen: self.clock.wall(told.first_ns),
            last_seen: self.clock.wall(told.last_ns),
            process: self.process(key, tally, told.first_ns),
            cgroup_id: Some(key.cgroup_id),
            cgroup_path: origin.cgroup_path.as_deref().map(str::to_owned),
            container: origin.container.as_deref().cloned(),
        }
    }

    fn process(&mut self, key: &FlowKey, tally: &Tally, first_ns: u64) -> Process {
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
            comm: Some(
                self.settings
                    .redactor
                    .text(&comm_text(&tally.comm))
                    .into_owned(),
            ),
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
        process
    }

    /// Whether the log is due for rotation.
    fn tell_flow(&mut self, flow: Flow, origin: &Origin) -> Result<bool, WorkloadError> {
        let recorded = self.workload(&origin.workload, &origin.run)?;
        let record = Record::Flow(recorded.workload.envelope(&origin.run, Box::new(flow)));
        recorded.workload.tell(&record);
        Ok(recorded.workload.is_full())
    }

    pub(super) fn tell_losses(&mut self, now: Losses) -> Result<(), WorkloadError> {
        let before = std::mem::replace(&mut self.losses, now);
        let evicted = self.processes.take_evicted();
        let losses = self.losses.clone();
        let mut found = gaps(&before, &losses, |cgroup_id| self.concerned(cgroup_id));
        found.extend(forgotten(&evicted, |cgroup_id| self.concerned(cgroup_id)));
        found
            .into_iter()
            .try_for_each(|affected| self.tell_gap(affected))
    }

    /// Destinations may be missing where hooks could not be attached.
    fn not_attached(&mut self, cgroup_id: u64, reason: &str) -> Result<(), WorkloadError> {
        self.counters.not_attached += 1;
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        let workload = match machine.concerned(cgroup_id) {
            Concerned::Workload(name) => Some(name),
            Concerned::Everybody => None,
            Concerned::Nobody => return Ok(()),
        };
        let gap = Gap {
            what: GapKind::NotAttached,
            detail: format!("the hooks could not be attached to a container: {reason}"),
            lost: None,
            severity: Severity::Destinations,
        };
        self.tell_gap(Affected { workload, gap })
    }

    fn ask_for(&mut self, cgroup_id: u64, command: impl FnOnce(&Path) -> Command) {
        let Some((commands, mount)) = &self.watching else {
            return;
        };
        if commands.try_send(command(mount)).is_err()
            && let Err(error) = self.not_attached(cgroup_id, "too many were asked for at once")
        {
            tracing::warn!("{error}");
        }
    }

    pub(super) fn tell_gap(
        &mut self,
        Affected { workload, gap }: Affected,
    ) -> Result<(), WorkloadError> {
        if let Some(name) = workload {
            let run = self.run_of(&name);
            self.workload(&name, &run)?.workload.tell_gap(&run, gap);
            return Ok(());
        }
        for recorded in self.workloads.values_mut() {
            let run = recorded.last_run.clone();
            recorded.workload.tell_gap(&run, gap.clone());
        }
        Ok(())
    }

    /// A run of the workload to which a gap can be told.
    fn run_of(&self, workload: &Arc<str>) -> Arc<str> {
        if let Some(recorded) = self.workloads.get(workload) {
            return recorded.last_run.clone();
        }
        match &self.subject {
            Subject::Machine(machine) => machine.boot_run(workload),
            Subject::Command { run, .. } => run.clone(),
        }
    }

    pub(super) fn tell_changes(&mut self) -> Result<(), WorkloadError> {
        let Subject::Machine(machine) = &mut self.subject else {
            return Ok(());
        };
        for change in machine.take_changes() {
            match change {
                Change::RunBegan { workload, run } => {
                    self.workload(&workload, &run)?;
                }
                Change::RunEnded { workload, run } => {
                    // What the run did last is still in the kernel.
                    if let Some(recorded) = self.workloads.get_mut(&workload) {
                        recorded.ending.push(run);
                    }
                }
                Change::Renamed {
                    provisional,
                    workload,
                    run,
                } => {
                    self.tell_alias(&provisional, &workload, &run)?;
                }
                Change::Missing { workload, gap } => {
                    self.tell_gap(Affected { workload, gap })?;
                }
                Change::Watch { cgroup_id, path } => self.ask_for(cgroup_id, |mount| {
                    let path = mount.join(path.trim_start_matches('/'));
                    Command::Attach { cgroup_id, path }
                }),
                Change::Unwatch { cgroup_id } => {
                    self.ask_for(cgroup_id, |_| Command::Detach { cgroup_id });
                }
            }
        }
        Ok(())
    }

    /// Both logs say so: whoever reads either finds the other. What was observed under the
    /// provisional name counts for the real one from now on.
    fn tell_alias(
        &mut self,
        provisional: &Arc<str>,
        workload: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<(), WorkloadError> {
        let body = crate::record::Alias {
            provisional: provisional.to_string(),
        };
        let named = self.workload(workload, run)?;
        let record = Record::Alias(named.workload.envelope(run, body));
        named.workload.tell(&record);
        let Some(before) = self.workloads.get_mut(provisional) else {
            return Ok(());
        };
        before.workload.tell(&record);
        before.workload.end(run, "renamed", None);
        before.write_out();
        let observed = before.workload.observations().clone();
        self.workload(workload, run)?.workload.merge(&observed);
        Ok(())
    }

    /// The workload of that name with that run begun, opened if need be.
    fn workload(
        &mut self,
        name: &Arc<str>,
        run: &Arc<str>,
    ) -> Result<&mut Recorded, WorkloadError> {
        let mut is_new = false;
        let recorded = match self.workloads.entry(name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut opened = Recorded::open(&self.settings, name, run, None)
                    .or_else(|error| self.counters.without_log(&self.settings, name, run, error))?;
                opened.workload.ended_here(self.ended.iter());
                if let (Some(book), Some(mark)) = (&mut self.book, opened.mark()) {
                    book.opened(name, mark);
                }
                is_new = true;
                new.insert(opened)
            }
        };
        recorded.last_run.clone_from(run);
        if recorded.workload.is_unheard_of()
            && let Some(gap) = &self.uncertain
        {
            recorded.workload.tell_gap(run, gap.clone());
        }
        recorded.workload.begin(run, &self.settings.start);
        if is_new {
            for gap in &self.preexisting.for_everybody {
                recorded.workload.tell_gap(run, gap.clone());
            }
        }
        Ok(recorded)
    }

    fn machine_counters(&self) -> Vec<(&'static str, u64)> {
        match &self.subject {
            Subject::Machine(machine) => machine.counters().to_vec(),
            Subject::Command { .. } => Vec::new(),
        }
    }

    /// The counters of a `stats` record, documented in `docs/log.md`.
    fn counters(&self) -> BTreeMap<String, u64> {
        let lost = |reason: u32| self.losses.by_reason[reason as usize];
        [
            ("events", self.counters.news),
            ("counted_keys", self.counters.counted_keys),
            ("sweeps", self.counters.sweeps),
            ("workloads_without_log", self.counters.without_log),
            ("ring_full", lost(loss::RING_FULL)),
            ("table_full", lost(loss::TABLE_FULL)),
            ("quota_full", lost(loss::QUOTA_FULL)),
            ("cgroups_full", lost(loss::CGROUPS_FULL)),
            ("socket_storage", lost(loss::SOCKET_STORAGE)),
            ("no_table", lost(loss::NO_TABLE)),
            ("translations_full", lost(loss::TRANSLATIONS_FULL)),
            ("not_attached", self.counters.not_attached),
            ("undecodable", self.losses.undecodable),
            ("process_events", self.counters.process_events),
            ("process_ring_full", lost(loss::PROCESS_RING_FULL)),
            ("processes_evicted", self.processes.all_evicted()),
        ]
        .into_iter()
        .chain(self.machine_counters())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
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

/// What became of the attempts, as far as it is known. Of probes only that they were denied.
fn outcomes(told: &Told) -> BTreeMap<Outcome, u64> {
    let known = told.blocked + told.established;
    let unknown = match told.channel {
        Channel::UdpProbe => 0,
        Channel::Connect
        | Channel::Sendmsg
        | Channel::UdpConnect
        | Channel::Preexisting
        | Channel::Import => told.count.saturating_sub(known),
    };
    [
        (Outcome::Established, told.established),
        (Outcome::Blocked, told.blocked),
        (Outcome::Unknown, unknown),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .collect()
}

fn process_id(key: &FlowKey) -> ProcessId {
    ProcessId {
        pid: key.pid,
        start: key.process_start,
    }
}
