//! The task that reads ring and table and passes both on, in order, through one bounded channel.
//!
//! When the receiver is slow the channel fills, then the ring, then the table; the kernel counts
//! what it refuses, and the counts arrive here with the next sweep.

use std::{collections::HashMap, io, os::fd::AsFd as _, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracer_common::{
    flow::{FlowKey, FlowValue},
    limits::{WAKE_INTERVAL_NS, loss},
    translation::Translation,
};

use super::{
    load::{Loaded, Sizes},
    ring::{self, Ring},
    sweep::read_quotas,
    sys,
};
use crate::{
    decode::{
        event::{self, Event},
        process::{self, ProcessEvent},
    },
    inventory::{self, Inventory},
};

/// Batches that may wait for the receiver.
const CHANNEL: usize = 16;

/// What the kernel told, in the order in which it is to be taken in.
#[derive(Debug)]
pub enum Batch {
    /// News: no counts.
    News(Vec<Event>),
    /// What processes did before the flows that follow.
    Processes(Vec<ProcessEvent>),
    /// Counts since the last sweep.
    Counts(Vec<(FlowKey, FlowValue)>, ClockSample),
    /// What left in place of what was asked for, since the last sweep.
    Translations(Vec<Translation>),
    /// Connections that were open before the hooks were there. Whatever was counted between the
    /// two has been told.
    Preexisting(Inventory),
    /// Everything up to `began` was counted; the losses so far.
    Swept {
        losses: Losses,
        reason: SweepReason,
        began: ClockSample,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepReason {
    /// The table was filling.
    Pressure,
    /// An interval has ended.
    Interval,
    /// Every hook is detached: nothing will follow.
    End,
}

/// Totals since loading; they only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// By `tracer_common::limits::loss`.
    pub by_reason: [u64; loss::COUNT as usize],
    /// Observations refused, by cgroup id (0: cgroups beyond the table of quotas).
    pub refused: HashMap<u64, u64>,
    /// Observations refused that no cgroup accounts for.
    pub unattributed: u64,
    pub undecodable: u64,
}

impl Losses {
    /// Observations refused, all together.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.by_reason[loss::TABLE_FULL as usize] + self.by_reason[loss::QUOTA_FULL as usize]
    }

    /// Forks, execs and exits that were not told.
    #[must_use]
    pub fn processes(&self) -> u64 {
        self.by_reason[loss::PROCESS_RING_FULL as usize]
    }

    /// Takes in what was read: first `by_reason`, then `refused`. A cgroup's counter goes up
    /// before the sum does, so that the sum never exceeds them for want of a moment; the other
    /// way round, refusals between the two readings are no news the next time either.
    pub fn settle(&mut self) {
        let attributed: u64 = self.refused.values().sum();
        let rest = self.all_refused().saturating_sub(attributed);
        self.unattributed = self.unattributed.max(rest);
    }
}

/// The kernel's clocks against the wall, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    monotonic_ns: i128,
    boot_ns: i128,
    wall_ns: i128,
}

impl ClockSample {
    /// Samples both clocks now.
    #[must_use]
    pub fn now() -> Self {
        let read = |clock| {
            clock_gettime(clock)
                .map(|time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
                .unwrap_or_default()
        };
        Self {
            monotonic_ns: read(ClockId::CLOCK_MONOTONIC),
            boot_ns: read(ClockId::CLOCK_BOOTTIME),
            wall_ns: read(ClockId::CLOCK_REALTIME),
        }
    }

    /// CLOCK_MONOTONIC, nanoseconds.
    #[must_use]
    pub fn monotonic(&self) -> u64 {
        u64::try_from(self.monotonic_ns).unwrap_or(0)
    }

    /// The wall-clock time of a CLOCK_MONOTONIC time in nanoseconds.
    #[must_use]
    pub fn wall(&self, monotonic_ns: u64) -> jiff::Timestamp {
        let nanoseconds = self.wall_ns + i128::from(monotonic_ns) - self.monotonic_ns;
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
    }

    /// The wall-clock time of a CLOCK_BOOTTIME time in nanoseconds, as processes' starts are told.
    #[must_use]
    pub fn wall_of_boot(&self, boot_ns: u64) -> jiff::Timestamp {
        let nanoseconds = self.wall_ns + i128::from(boot_ns) - self.boot_ns;
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
    }

    /// When it was taken, in nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.monotonic_ns).unwrap_or(0)
    }
}

/// Runs until `cancel`; then detaches, drains, sends [`SweepReason::End`] and returns.
///
/// # Errors
/// epoll or a map fails: nothing more can be read.
pub fn spawn(
    loaded: Loaded,
    sizes: Sizes,
    period: Duration,
    inventory: Option<inventory::Request>,
    cancel: CancellationToken,
) -> (mpsc::Receiver<Batch>, JoinHandle<io::Result<()>>) {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let task = tokio::spawn(async move {
        let mut capture = Capture::new(loaded, sizes, sender)?;
        capture.inventory =
            inventory.map(|request| tokio::task::spawn_blocking(move || inventory::take(&request)));
        capture.run(period, &cancel).await?;
        capture.finish().await
    });
    (receiver, task)
}

struct Capture {
    loaded: Loaded,
    ring: Ring<Event>,
    processes: Ring<ProcessEvent>,
    /// Batches that the ring of processes can hold.
    process_batches: usize,
    sender: mpsc::Sender<Batch>,
    /// Sweep when this many keys are new.
    pressure: u64,
    new_keys: u64,
    losses: Losses,
    removed: Vec<u64>,
    /// On its way.
    inventory: Option<JoinHandle<Inventory>>,
}

impl Capture {
    fn new(mut loaded: Loaded, sizes: Sizes, sender: mpsc::Sender<Batch>) -> io::Result<Self> {
        let taken = || io::Error::other("the ring buffer has a reader already");
        let ring = loaded.ring.take().ok_or_else(taken)?;
        let processes = loaded.processes.take().ok_or_else(taken)?;
        Ok(Self {
            loaded,
            ring: Ring::new(ring, event::decode)?,
            processes: Ring::new(processes, process::decode)?,
            process_batches: 1 + sizes.process_ring_bytes as usize / ring::BATCH_BYTES,
            sender,
            pressure: u64::from(sizes.table_entries.min(sizes.cgroup_quota) / 4),
            new_keys: 0,
            losses: Losses::default(),
            removed: Vec::new(),
            inventory: None,
        })
    }

    async fn run(&mut self, period: Duration, cancel: &CancellationToken) -> io::Result<()> {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = ticks.tick() => self.end_interval().await?,
                woken = self.ring.woken() => {
                    woken?;
                    self.read_while_busy(&mut ticks, cancel).await?;
                }
                woken = self.processes.woken() => {
                    woken?;
                    self.read_processes().await?;
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
                () = sleep(Duration::from_nanos(WAKE_INTERVAL_NS)) => {}
            }
        }
        Ok(())
    }

    /// Passes the ring's content on; false if there was none.
    async fn read_ring(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            let events = self.ring.take();
            if events.is_empty() {
                return Ok(any);
            }
            any = true;
            self.note(&events);
            // What made these flows was told before they were, and is there by now.
            self.read_processes().await?;
            self.send(Batch::News(events)).await?;
            if self.new_keys >= self.pressure {
                self.sweep(SweepReason::Pressure).await?;
            }
        }
    }

    /// Passes on what is in the ring of processes: no more than it can hold, so that a fork bomb
    /// does not keep this task for itself.
    async fn read_processes(&mut self) -> io::Result<()> {
        for _ in 0..self.process_batches {
            let events = self.processes.take();
            if events.is_empty() {
                break;
            }
            self.send(Batch::Processes(events)).await?;
        }
        Ok(())
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::NewFlow { .. } => self.new_keys += 1,
                Event::CgroupRemoved { cgroup_id } => self.removed.push(*cgroup_id),
                Event::CgroupCreated { .. } => {}
            }
        }
    }

    /// Keys whose event was lost are new as well.
    fn under_pressure(&mut self) -> io::Result<bool> {
        let before = self.losses.by_reason[loss::RING_FULL as usize];
        let now = self.read_losses()?;
        let unseen = now[loss::RING_FULL as usize] - before;
        Ok(self.new_keys + unseen >= self.pressure)
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
        self.loaded
            .tables
            .sweep(|key, value| counts.push((*key, *value)))?;
        // After the counts that they are about. An element is noted again once it is taken out,
        // so that nothing is lost between the two.
        let mut translations = Vec::new();
        sys::read_all(
            self.loaded.translations.as_fd(),
            sys::Batch::Take,
            |translation: &Translation, _: &u64| translations.push(*translation),
        )?;
        self.new_keys = 0;
        if let Some(log) = &mut self.loaded.log {
            log.flush();
        }
        // Now: whoever counted has left the kernel, and so has what it told before.
        self.read_processes().await?;
        self.update_losses()?;
        if !counts.is_empty() {
            self.send(Batch::Counts(counts, ClockSample::now())).await?;
        }
        if !translations.is_empty() {
            self.send(Batch::Translations(translations)).await?;
        }
        let losses = self.losses.clone();
        self.send(Batch::Swept {
            losses,
            reason,
            began,
        })
        .await
    }

    fn update_losses(&mut self) -> io::Result<()> {
        let before = self.losses.all_refused();
        self.losses.by_reason = self.read_losses()?;
        if self.losses.all_refused() != before {
            self.read_refused()?;
        }
        self.losses.settle();
        self.losses.undecodable = self.ring.undecodable() + self.processes.undecodable();
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
        }
        Ok(())
    }

    fn read_losses(&self) -> io::Result<[u64; loss::COUNT as usize]> {
        let mut totals = [0; loss::COUNT as usize];
        for (reason, total) in (0_u32..).zip(&mut totals) {
            let per_cpu = self
                .loaded
                .losses
                .get(&reason, 0)
                .map_err(io::Error::other)?;
            *total = per_cpu.iter().sum();
        }
        Ok(totals)
    }

    async fn send(&self, batch: Batch) -> io::Result<()> {
        self.sender
            .send(batch)
            .await
            .map_err(|_closed| io::Error::other("the aggregation has ended"))
    }

    async fn finish(mut self) -> io::Result<()> {
        self.loaded.detach();
        self.tell_inventory().await?;
        self.read_ring().await?;
        self.sweep(SweepReason::End).await
    }
}
