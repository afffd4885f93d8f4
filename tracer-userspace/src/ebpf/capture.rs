//! The task that reads ring and table and passes both on, in order, through one bounded channel.
//!
//! When the receiver is slow the channel fills, then the ring, then the table; the kernel counts
//! what it refuses, and the counts arrive here with the next sweep.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use bytemuck::Pod;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracer_common::{
    flow::{FlowKey, FlowValue},
    limits::{WAKE_INTERVAL_NS, loss},
    outcome::ConnectionSet,
    socket::UnixName,
};

use super::{
    batch::{Batch, Command, SweepReason, Swept, Terms},
    clock::ClockSample,
    journal::Sweep,
    load::{Hooked, Loaded, Sizes},
    losses::{Losses, read_losses},
    ring::{self, Ring},
    sweep::read_quotas,
    sys,
};
use crate::{
    conntrack,
    decode::{
        event::{self, Event},
        process::{self, ProcessEvent},
        socket_name::{socket_name, unix_socket},
        wire::{self, Piece},
    },
    inventory::{self, Inventory},
    privilege::outside,
};

/// Where the kernel tells about processes.
const PROC: &str = "/proc";

/// Batches that may wait for the receiver.
const CHANNEL: usize = 16;
/// Sweeps out of turn are at least this far apart, whatever a workload does.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// Batches of news that are read at most where the kernel goes on sending.
const NEWS_BATCHES: usize = 256;

/// Runs until `cancel`; then detaches if it is to, drains, sends [`SweepReason::End`] and returns.
///
/// # Errors
/// epoll or a map fails: nothing more can be read.
pub fn spawn(
    loaded: Loaded,
    sizes: Sizes,
    period: Duration,
    inventory: Option<inventory::Request>,
    cancel: CancellationToken,
    terms: Terms,
) -> (mpsc::Receiver<Batch>, JoinHandle<io::Result<()>>) {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let task = tokio::spawn(async move {
        let mut capture = Capture::new(loaded, sizes, sender, terms)?;
        capture.inventory =
            inventory.map(|request| tokio::task::spawn_blocking(move || list_open(request)));
        capture.begin().await?;
        capture.run(period, &cancel).await?;
        capture.finish().await
    });
    (receiver, task)
}

/// What one sweep took out.
struct Counted {
    /// The losses are still to come.
    sweep: Sweep,
    began: ClockSample,
}

struct Capture {
    loaded: Loaded,
    ring: Ring<Event>,
    processes: Ring<ProcessEvent>,
    /// Batches that the ring of processes can hold.
    process_batches: usize,
    wire: Ring<Piece>,
    /// The same of the ring of the wire.
    wire_batches: usize,
    sender: mpsc::Sender<Batch>,
    terms: Terms,
    /// Sweep when this many keys are new.
    pressure: u64,
    new_keys: u64,
    losses: Losses,
    /// Events that earlier processes could not decode.
    undecodable_before: u64,
    removed: Vec<u64>,
    /// Those before the last sweep, which told what was refused to them.
    gone: Vec<u64>,
    /// On its way.
    inventory: Option<JoinHandle<Inventory>>,
    host: conntrack::Watch,
    /// The disk refused the journal, and that was told.
    is_refused: bool,
    /// When a sweep out of turn was last made, and when the next one is due.
    news_swept: Option<Instant>,
    news_due: Option<Instant>,
}

impl Capture {
    fn new(
        mut loaded: Loaded,
        sizes: Sizes,
        sender: mpsc::Sender<Batch>,
        terms: Terms,
    ) -> io::Result<Self> {
        let taken = || io::Error::other("the ring buffer has a reader already");
        let ring = loaded.ring.take().ok_or_else(taken)?;
        let processes = loaded.processes.take().ok_or_else(taken)?;
        let wire = loaded.wire.take().ok_or_else(taken)?;
        Ok(Self {
            loaded,
            ring: Ring::new(ring, event::decode)?,
            processes: Ring::new(processes, process::decode)?,
            process_batches: 1 + sizes.process_ring_bytes as usize / ring::BATCH_BYTES,
            wire: Ring::new(wire, wire::decode)?,
            wire_batches: 1 + sizes.wire_ring_bytes as usize / ring::BATCH_BYTES,
            sender,
            pressure: u64::from(sizes.table_entries.min(sizes.cgroup_quota) / 4),
            new_keys: 0,
            losses: terms.losses.clone(),
            undecodable_before: terms.losses.undecodable,
            terms,
            removed: Vec::new(),
            gone: Vec::new(),
            inventory: None,
            host: conntrack::Watch::new(sys::own_netns_cookie().unwrap_or(0)),
            is_refused: false,
            news_swept: None,
            news_due: None,
        })
    }

    /// Takes over what an earlier process has left: its news first, by which its counts are
    /// understood.
    async fn begin(&mut self) -> io::Result<()> {
        self.read_news().await?;
        self.tell_all_names().await?;
        match self.terms.swept {
            Swept::Told => self.loaded.tables.empty(),
            Swept::Untold => {
                let mut counts = Vec::new();
                self.loaded
                    .tables
                    .read_swept(|key, value| counts.push((*key, *value)))?;
                let swept = Counted {
                    sweep: Sweep {
                        counts,
                        ..Sweep::default()
                    },
                    began: ClockSample::now(),
                };
                self.hand_over(swept, SweepReason::Pressure).await
            }
        }
    }

    async fn run(&mut self, period: Duration, cancel: &CancellationToken) -> io::Result<()> {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut looks = interval(conntrack::PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = ticks.tick() => self.end_interval().await?,
                _ = looks.tick() => self.ask_host(false).await?,
                () = due(self.news_due) => self.sweep_news().await?,
                Some(command) = self.terms.commands.recv() => self.obey(command).await?,
                woken = self.ring.woken() => {
                    woken?;
                    self.read_while_busy(&mut ticks, cancel).await?;
                }
                woken = self.processes.woken() => {
                    woken?;
                    self.read_processes().await?;
                }
                woken = self.wire.woken() => {
                    woken?;
                    self.read_wire().await?;
                }
            }
        }
    }

    /// The kernel wakes at most once in [`WAKE_INTERVAL_NS`], so whoever was woken looks again
    /// after that long, until there is nothing.
    async fn read_while_busy(
        &mut self,
        ticks: &mut Interval,
        cancel: &CancellationToken,
    ) -> io::Result<()> {
        while self.read_ring().await? {
            if self.under_pressure()? {
                self.sweep(SweepReason::Pressure).await?;
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = ticks.tick() => self.end_interval().await?,
                () = due(self.news_due) => self.sweep_news().await?,
                Some(command) = self.terms.commands.recv() => self.obey(command).await?,
                () = sleep(Duration::from_nanos(WAKE_INTERVAL_NS)) => {}
            }
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Attach { cgroup_id, path } => {
                if let Some(told) = self.attach(cgroup_id, &path).await? {
                    self.send(told).await?;
                }
            }
            Command::Detach { cgroup_id } => self.let_go(cgroup_id),
            Command::Sweep => {
                let now = Instant::now();
                let soonest = self.news_swept.map_or(now, |last| last + NEWS_INTERVAL);
                self.news_due.get_or_insert(soonest.max(now));
            }
        }
        Ok(())
    }

    /// What is to be told of it.
    async fn attach(&mut self, cgroup_id: u64, path: &Path) -> io::Result<Option<Batch>> {
        match self.loaded.attach_cgroup(path) {
            Ok(Hooked::Before) => Ok(None),
            Ok(Hooked::Now) => {
                let at_ns = ClockSample::now().monotonic_ns();
                self.read_processes().await?;
                Ok(Some(Batch::Attached { cgroup_id, at_ns }))
            }
            Err(_) if !path.exists() => Ok(Some(Batch::CameAndWent { cgroup_id })),
            Err(error) => {
                let reason = error.to_string();
                Ok(Some(Batch::NotAttached { cgroup_id, reason }))
            }
        }
    }

    /// Hooks that stay where nobody asked for them cost time, not evidence.
    fn let_go(&mut self, cgroup_id: u64) {
        if let Err(error) = self.loaded.detach_cgroup(cgroup_id) {
            tracing::warn!("cannot detach from a cgroup: {error}");
        }
    }

    /// Passes the ring's content on; false if there was none.
    async fn read_ring(&mut self) -> io::Result<bool> {
        let mut any = false;
        while self.pass_news().await? {
            any = true;
            if self.new_keys >= self.pressure {
                self.sweep(SweepReason::Pressure).await?;
            }
        }
        Ok(any)
    }

    /// Passes on what is in the ring by now, whoever goes on filling it.
    async fn read_news(&mut self) -> io::Result<()> {
        for _batch in 0..NEWS_BATCHES {
            if !self.pass_news().await? {
                break;
            }
        }
        Ok(())
    }

    /// Passes one batch of news on; false if there is none.
    async fn pass_news(&mut self) -> io::Result<bool> {
        let Self {
            ring,
            terms,
            loaded,
            ..
        } = self;
        let next_sweep = loaded.tables.generation() + 1;
        let events = ring.take(|event, bytes| {
            if let (Some(journal), true) = (&mut terms.journal, matters(event)) {
                // Without it a container that is gone may lose its name, its counts stay.
                let _refused = journal.news(next_sweep, bytes);
            }
        });
        if events.is_empty() {
            return Ok(false);
        }
        self.note(&events);
        let events = self.pass_containers(events).await?;
        // What made these flows was told before they were, and is there by now.
        self.read_processes().await?;
        self.read_wire().await?;
        self.send(Batch::News(events)).await?;
        Ok(true)
    }

    /// Passes on containers that have come before anything else, which may take long to understand:
    /// where only some get hooks, those are to be there before the first process is. Where others
    /// have gone as well, all stays in order.
    async fn pass_containers(&mut self, events: Vec<Event>) -> io::Result<Vec<Event>> {
        let is_gone = |event: &Event| matches!(event, Event::CgroupRemoved { .. });
        if events.iter().any(is_gone) {
            return Ok(events);
        }
        let is_new = |event: &Event| matches!(event, Event::CgroupCreated { .. });
        let (new, others): (Vec<Event>, Vec<Event>) = events.into_iter().partition(is_new);
        if !new.is_empty() {
            self.send(Batch::News(new)).await?;
        }
        Ok(others)
    }

    /// Passes on what is in the ring of processes: no more than it can hold, so that a fork bomb
    /// does not keep this task for itself.
    async fn read_processes(&mut self) -> io::Result<()> {
        for _ in 0..self.process_batches {
            let events = self.processes.take(|_, _| {});
            if events.is_empty() {
                break;
            }
            self.send(Batch::Processes(events)).await?;
        }
        Ok(())
    }

    /// The same of what was said on the wire.
    async fn read_wire(&mut self) -> io::Result<()> {
        for _ in 0..self.wire_batches {
            let pieces = self.wire.take(|_, _| {});
            if pieces.is_empty() {
                break;
            }
            self.send(Batch::Wire(pieces)).await?;
        }
        Ok(())
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::NewFlow { key, .. } => {
                    self.new_keys += 1;
                    note_namespace(&mut self.host, key);
                }
                Event::KeyAgain => self.new_keys += 1,
                Event::CgroupRemoved { cgroup_id, .. } => self.removed.push(*cgroup_id),
                Event::CgroupCreated { .. } => {}
            }
        }
    }

    /// Keys whose event was lost are new as well.
    fn under_pressure(&mut self) -> io::Result<bool> {
        let before = self.losses.by_reason[loss::RING_FULL as usize];
        let now = read_losses(&self.loaded)?;
        let unseen = now[loss::RING_FULL as usize] - before;
        Ok(self.new_keys + unseen >= self.pressure)
    }

    async fn sweep_news(&mut self) -> io::Result<()> {
        self.news_due = None;
        self.news_swept = Some(Instant::now());
        // What asked for it may not be all that is in the ring by now.
        self.read_news().await?;
        self.sweep(SweepReason::News).await
    }

    async fn end_interval(&mut self) -> io::Result<()> {
        if let Err(error) = self.loaded.foreign.check() {
            tracing::debug!("cannot tell whether other address programs are loaded: {error}");
        }
        if self.inventory.as_ref().is_some_and(JoinHandle::is_finished) {
            self.tell_inventory().await?;
        }
        self.sweep(SweepReason::Interval).await
    }

    /// Tells what was open, after everything that the hooks have seen until it was listed: a
    /// connection made meanwhile may be in both.
    async fn tell_inventory(&mut self) -> io::Result<()> {
        let Some(task) = self.inventory.take() else {
            return Ok(());
        };
        let inventory = task.await.map_err(io::Error::other)?;
        self.read_ring().await?;
        self.sweep(SweepReason::Pressure).await?;
        self.send(Batch::Preexisting(inventory)).await
    }

    async fn sweep(&mut self, reason: SweepReason) -> io::Result<()> {
        let began = ClockSample::now();
        let mut counts = Vec::with_capacity(self.new_keys as usize);
        let Self { loaded, host, .. } = self;
        loaded.tables.sweep(|key, value| {
            note_namespace(host, key);
            counts.push((*key, *value));
        })?;
        // After the counts that they are about. Taken out once the journal has them.
        let translations = read_set(&self.loaded.translations)?;
        let answers = read_set(&self.loaded.answers)?;
        self.new_keys = 0;
        if let Some(log) = &mut self.loaded.log {
            log.flush();
        }
        let sweep = Sweep {
            counts,
            translations,
            answers,
            ..Sweep::default()
        };
        let swept = Counted { sweep, began };
        self.hand_over(swept, reason).await
    }

    /// Passes on what was swept, which leaves the kernel once the journal has it.
    async fn hand_over(&mut self, swept: Counted, reason: SweepReason) -> io::Result<()> {
        let Counted { mut sweep, began } = swept;
        // Now: whoever counted has left the kernel, and so has what it told before.
        self.read_processes().await?;
        self.read_wire().await?;
        self.update_losses()?;
        let generation = self.loaded.tables.generation();
        sweep.losses = self.losses.clone();
        self.keep(generation, &sweep)?;
        for translation in &sweep.translations {
            sys::delete(self.loaded.translations.as_fd(), translation)?;
        }
        for answer in &sweep.answers {
            sys::delete(self.loaded.answers.as_fd(), answer)?;
        }
        self.loaded.tables.empty()?;
        let Sweep {
            losses,
            counts,
            translations,
            answers,
        } = sweep;
        self.tell_names(&counts).await?;
        if !counts.is_empty() {
            self.send(Batch::Counts(counts, ClockSample::now())).await?;
        }
        if reason == SweepReason::End {
            self.tell_open().await?;
        }
        if !translations.is_empty() {
            self.send(Batch::Translations(translations)).await?;
        }
        if !answers.is_empty() {
            self.send(Batch::Answers(answers)).await?;
        }
        // After what left was read: whatever of that the host has rewritten is in its table by now.
        self.ask_host(reason == SweepReason::End).await?;
        self.send(Batch::Swept {
            losses,
            reason,
            began,
            generation,
        })
        .await
    }

    /// Passes on what was said on connections that are open. After the counts: a connection that ends
    /// from now on is in none of those that this process tells.
    async fn tell_open(&self) -> io::Result<()> {
        let mut open = HashMap::new();
        let map = self.loaded.connections.as_fd();
        sys::read_all(map, sys::Batch::Look, |_: &u32, set: &ConnectionSet| {
            let are_open = set.iter().filter(|each| each.is_open());
            open.extend(are_open.map(|each| (each.socket_cookie, each.key)));
        })?;
        if open.is_empty() {
            return Ok(());
        }
        let ask = move || inventory::open::so_far(PROC.into(), &open);
        let asked = tokio::task::spawn_blocking(|| outside::at_length(ask)).await;
        let said = asked.map_err(io::Error::other)??;
        self.send(Batch::Open(said)).await
    }

    /// Passes on what the Unix sockets are called that `counts` are about. No program that counted
    /// them is still running, so that whatever they noted is there.
    async fn tell_names(&self, counts: &[(FlowKey, FlowValue)]) -> io::Result<()> {
        let map = self.loaded.unix_names.as_fd();
        let sockets: BTreeSet<u64> = counts
            .iter()
            .filter_map(|(key, _)| unix_socket(key))
            .map(|socket| socket.name)
            .collect();
        let mut names = Vec::new();
        for socket in sockets {
            let found = sys::lookup::<u64, UnixName>(map, &socket)?;
            let name = found.as_ref().and_then(socket_name);
            names.extend(name.map(|name| (socket, name)));
        }
        self.pass_names(names).await
    }

    /// The same of all that an earlier process has left, whose counts may be in its journal alone.
    async fn tell_all_names(&self) -> io::Result<()> {
        let mut names = Vec::new();
        let map = self.loaded.unix_names.as_fd();
        sys::read_all(map, sys::Batch::Look, |socket: &u64, name: &UnixName| {
            names.extend(socket_name(name).map(|name| (*socket, name)));
        })?;
        self.pass_names(names).await
    }

    async fn pass_names(&self, names: Vec<(u64, String)>) -> io::Result<()> {
        match names.is_empty() {
            true => Ok(()),
            false => self.send(Batch::SocketNames(names)).await,
        }
    }

    /// Passes on what the host has rewritten, if that is worth a look.
    async fn ask_host(&mut self, is_last: bool) -> io::Result<()> {
        match self.host.look(is_last).await {
            Some(listing) => self.send(Batch::Rewritten(listing)).await,
            None => Ok(()),
        }
    }

    /// A disk that refuses costs no recording: only that a daemon killed now leaves a gap.
    fn keep(&mut self, generation: u64, sweep: &Sweep) -> io::Result<()> {
        let Some(journal) = &mut self.terms.journal else {
            return Ok(());
        };
        let told = *self.terms.told.borrow();
        let kept = journal.sweep(generation, sweep, told);
        let Err(error) = kept else {
            self.is_refused = false;
            return Ok(());
        };
        if !self.is_refused {
            tracing::warn!("cannot write the journal, a crash would cost evidence: {error}");
        }
        self.is_refused = true;
        self.loaded.tables.raise_generation()
    }

    fn update_losses(&mut self) -> io::Result<()> {
        for cgroup_id in std::mem::take(&mut self.gone) {
            self.losses.forget(cgroup_id);
        }
        let before = self.losses.all_refused();
        self.losses.by_reason = read_losses(&self.loaded)?;
        if self.losses.all_refused() != before {
            self.read_refused()?;
        }
        self.losses.settle();
        self.losses.undecodable = self.undecodable_before
            + self.ring.undecodable()
            + self.processes.undecodable()
            + self.wire.undecodable();
        self.forget_removed()
    }

    fn read_refused(&mut self) -> io::Result<()> {
        let generation = self.loaded.tables.generation();
        for quota in read_quotas(&self.loaded.quotas, generation)? {
            if quota.refused > 0 {
                self.losses.refused.insert(quota.cgroup_id, quota.refused);
            }
        }
        Ok(())
    }

    fn forget_removed(&mut self) -> io::Result<()> {
        for cgroup_id in std::mem::take(&mut self.removed) {
            sys::delete(self.loaded.quotas.as_fd(), &cgroup_id)?;
            self.gone.push(cgroup_id);
            // Its hooks went with it; their pins did not.
            self.let_go(cgroup_id);
        }
        Ok(())
    }

    async fn send(&self, batch: Batch) -> io::Result<()> {
        self.sender
            .send(batch)
            .await
            .map_err(|_closed| io::Error::other("the aggregation has ended"))
    }

    async fn finish(mut self) -> io::Result<()> {
        if self.terms.detach.load(Ordering::Relaxed) {
            self.loaded.detach().map_err(io::Error::other)?;
        } else {
            self.loaded.foreign.detach();
        }
        self.tell_inventory().await?;
        self.read_news().await?;
        self.sweep(SweepReason::End).await
    }
}

/// What is in a map that is a set.
fn read_set<T: Pod>(set: &OwnedFd) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    sys::read_all(set.as_fd(), sys::Batch::Look, |each: &T, _: &u64| {
        found.push(*each);
    })?;
    Ok(found)
}

/// Lists what is open, which takes looking into other processes.
fn list_open(request: inventory::Request) -> Inventory {
    outside::at_length(move || inventory::take(&request))
        .unwrap_or_else(|error| Inventory::unknown(&error))
}

/// What is no IP socket has no network namespace either.
fn note_namespace(host: &mut conntrack::Watch, key: &FlowKey) {
    if key.netns_cookie != 0 {
        host.note(key.netns_cookie);
    }
}

/// Waits until a moment; for ever if there is none.
async fn due(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether counts cannot be put down to their container without this event.
fn matters(event: &Event) -> bool {
    match event {
        Event::CgroupCreated { .. } | Event::CgroupRemoved { .. } => true,
        Event::NewFlow { .. } | Event::KeyAgain => false,
    }
}
