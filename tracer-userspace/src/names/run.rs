//! The loop: a packet from the queue, what it means, the sets, and on it goes.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nfq::{Queue, Verdict};

use crate::{
    names::{
        approved::Approved,
        fill::Filler,
        hand_over::{HandOver, nft},
        hold::{self, HELD},
        tally::Tally,
        watch::Watch,
    },
    render::Scope,
};

/// Packets that may wait in the queue; more pass unheld, and the rules count them.
const QUEUE_LENGTH: u32 = 8192;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) table: String,
    pub(crate) queue: u16,
    pub(crate) grace: Duration,
    pub(crate) scope: Scope,
}

/// A companion at work: answers are held from its making on, until the process ends.
pub(crate) struct Companion {
    hand_over: HandOver,
    filler: Arc<Mutex<Filler>>,
    watched: Arc<Mutex<Tally>>,
}

impl Companion {
    /// Loads the rules that hand answers over, and begins to look at them.
    ///
    /// # Errors
    /// The ruleset or one of its sets is not there, or the kernel refuses the queue.
    pub(crate) fn start(approved: Approved, settings: &Settings) -> anyhow::Result<Self> {
        check_sets(&approved, &settings.table)?;
        let filler = Filler::new(&settings.table, settings.grace)
            .with_context(|| format!("cannot speak to nf_tables about {}", settings.table))?;
        let queue = open(settings.queue)?;
        let matches = hold::matches(&settings.scope, &approved);
        let hand_over = HandOver::load(&settings.table, settings.queue, &matches)
            .context("cannot load the rules that hold answers")?;
        let companion = Self {
            hand_over,
            filler: Arc::new(Mutex::new(filler)),
            watched: Arc::default(),
        };
        let (filler, watched) = (
            Arc::clone(&companion.filler),
            Arc::clone(&companion.watched),
        );
        let watch = Watch::new(approved, settings.grace);
        thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || turn(queue, watch, &filler, &watched))?;
        Ok(companion)
    }

    /// Looks whether the sets are still those that were filled.
    pub(crate) fn look_after(&self) {
        lock(&self.filler).look_after();
    }

    pub(crate) fn tally(&self) -> Tally {
        let filled = lock(&self.filler).tally;
        Tally {
            added: filled.added,
            full: filled.full,
            failed: filled.failed,
            ..*lock(&self.watched)
        }
    }

    /// Takes the rules away that hold answers. The sets keep what they have.
    ///
    /// # Errors
    /// `nft` or `iptables` refuses.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.hand_over.remove()
    }
}

fn open(number: u16) -> anyhow::Result<Queue> {
    let mut queue = Queue::open().context("cannot open a netfilter queue (as root?)")?;
    let bound = queue.bind(number);
    bound.with_context(|| {
        format!("cannot take netfilter queue {number}; another program may have it: --queue")
    })?;
    queue.set_fail_open(number, true)?;
    queue.set_queue_max_len(number, QUEUE_LENGTH)?;
    Ok(queue)
}

/// Every packet goes on, whatever becomes of it here.
fn turn(mut queue: Queue, mut watch: Watch, filler: &Mutex<Filler>, watched: &Mutex<Tally>) {
    loop {
        let mut packet = match queue.recv() {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // The queue ends with its socket, and answers pass unheld.
                tracing::error!("the netfilter queue ended: {error}");
                return;
            }
        };
        let additions = watch.packet(packet.get_payload());
        if !additions.is_empty() {
            lock(filler).fill(&additions);
        }
        *lock(watched) = watch.tally;
        packet.set_nfmark(packet.get_nfmark() | HELD);
        packet.set_verdict(Verdict::Accept);
        if let Err(error) = queue.verdict(packet) {
            tracing::warn!("a packet could not be sent on: {error}");
        }
    }
}

/// Counters are whole whatever happened to whoever held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every set that a name needs must be there: without one, what is approved would be dropped.
fn check_sets(approved: &Approved, table: &str) -> anyhow::Result<()> {
    let listed = nft(&["list", "sets", "table", "inet", table], "")
        .or_else(|_| nft(&["list", "table", "inet", table], ""))
        .with_context(|| {
            format!(
                "there is no table inet {table} in this network namespace: load the rules first"
            )
        })?;
    let has = |set: &str| {
        let mut lines = listed.lines().map(str::trim);
        lines.any(|line| {
            line.strip_prefix("set ")
                .is_some_and(|rest| rest == format!("{set} {{"))
        })
    };
    let missing: Vec<Arc<str>> = approved
        .sets()
        .into_iter()
        .filter(|set| !has(set))
        .collect();
    match missing.first() {
        None => Ok(()),
        Some(set) => bail!(
            "table inet {table} lacks {} set(s) of names, such as {set}: render the same policy for \
             nftables with --name-sets, and load it",
            missing.len()
        ),
    }
}
