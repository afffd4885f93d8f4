//! What a daemon finds when it starts: tables to go on with, and what was told of them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracer_common::flow::{FlowKey, FlowValue};

use crate::{
    aggregate::{
        account::{self, Book},
        recorder::Recorder,
        recovery::{Recovery, Unknown},
        workload::Continuity,
    },
    ebpf::{
        adopt::{Found, Remains},
        batch::{Command, Swept, Terms},
        journal::{self, Journal},
        load::Loaded,
        losses::losses_so_far,
        pin::{self, Pins},
    },
    record::{Gap, GapKind, Severity},
};

/// Whether, and where, hooks and tables outlive the daemon.
#[derive(Args, Debug)]
pub struct PinArgs {
    /// Keep hooks and tables here, in a bpffs, so that the next daemon goes on without a gap
    #[arg(long, value_name = "DIR", default_value = pin::DEFAULT)]
    pin: PathBuf,
    /// Leave nothing in the kernel: what happens between two daemons is not recorded
    #[arg(long)]
    no_pin: bool,
}

impl PinArgs {
    /// Locks the pins; `None` where nothing is to be pinned.
    pub(super) fn open(&self) -> anyhow::Result<Option<Pins>> {
        if self.no_pin {
            return Ok(None);
        }
        Ok(Some(Pins::open(&self.pin)?))
    }
}

/// What the daemon before this one has left.
#[derive(Debug)]
pub(super) struct Takeover {
    recovery: Recovery,
    /// Counts of tables that are gone, which no log has.
    remains: Vec<(FlowKey, FlowValue)>,
    swept: Swept,
    since: Timestamp,
    /// The maps are new ones.
    anew: bool,
    pub(super) continuity: Continuity,
}

impl Takeover {
    /// Nothing was left, or nothing is to be taken over.
    fn nothing() -> Self {
        Self {
            recovery: Recovery::default(),
            remains: Vec::new(),
            swept: Swept::Told,
            since: Timestamp::now(),
            anew: true,
            continuity: Continuity::default(),
        }
    }

    /// Compares what is in the kernel with the account in `output`. Everything must be attached by
    /// now, so that it is known what was attached before.
    pub(super) fn find(output: &Path, loaded: &mut Loaded) -> anyhow::Result<Self> {
        let went_on = loaded.went_on();
        match std::mem::replace(&mut loaded.found, Found::Nothing) {
            Found::Nothing => Ok(Self::nothing()),
            Found::Replaced(replaced) => {
                tracing::warn!("what an earlier daemon left is replaced: {}", replaced.why);
                Ok(Self::of_replaced(output, &replaced.why, replaced.remains))
            }
            Found::Adopted => {
                let generation = loaded.tables.generation();
                match Recovery::find(output, loaded.instance, generation) {
                    Ok(recovery) => Ok(Self::of_adopted(recovery, generation, went_on)),
                    Err(unknown) => Self::of_unknown(&unknown, loaded),
                }
            }
        }
    }

    /// Whether tables of an earlier daemon are gone on with.
    pub(super) fn is_adopted(&self) -> bool {
        !self.anew
    }

    fn of_adopted(recovery: Recovery, generation: u64, went_on: bool) -> Self {
        let since = recovery.account.since;
        tracing::info!("going on with the tables of an earlier daemon");
        Self {
            swept: if recovery.generation < generation {
                Swept::Untold
            } else {
                Swept::Told
            },
            since: if went_on { since } else { Timestamp::now() },
            continuity: if went_on {
                Continuity::Since(SystemTime::from(since))
            } else {
                Continuity::Broken(gap(
                    GapKind::Downtime,
                    "not everything was attached between the recording before this one and now",
                ))
            },
            remains: Vec::new(),
            anew: false,
            recovery,
        }
    }

    /// The tables go on being used, with what is in them; what was swept out of them last may be
    /// in a log, and is not told a second time.
    fn of_unknown(unknown: &Unknown, loaded: &Loaded) -> anyhow::Result<Self> {
        tracing::warn!("an earlier daemon left its tables, but {unknown}: evidence may be missing");
        let mut recovery = Recovery {
            generation: loaded.tables.generation(),
            ..Recovery::default()
        };
        recovery.account.losses = losses_so_far(loaded).context("cannot read the losses")?;
        let gap = gap(
            GapKind::Downtime,
            &format!("an earlier daemon left its tables, but {unknown}"),
        );
        recovery.uncertain = Some(gap.clone());
        Ok(Self {
            recovery,
            continuity: Continuity::Broken(gap),
            anew: false,
            ..Self::nothing()
        })
    }

    fn of_replaced(output: &Path, why: &str, remains: Option<Remains>) -> Self {
        let gap = gap(
            GapKind::Replaced,
            &format!("the pins of the daemon before this one were replaced: {why}"),
        );
        let mut found = Self {
            continuity: Continuity::Broken(gap.clone()),
            ..Self::nothing()
        };
        if let Some(remains) = remains {
            let known = Recovery::find(output, remains.instance, remains.generation);
            found.remains = remains.live;
            if let Ok(recovery) = known {
                if recovery.generation < remains.generation {
                    found.remains.extend(remains.swept);
                }
                found.recovery = recovery;
            }
        }
        found.recovery.uncertain = Some(gap);
        found
    }

    /// Has the recorder take in what was left, and makes the terms on which capture begins.
    pub(super) fn take_in(
        self,
        recorder: &mut Recorder,
        loaded: &Loaded,
        output: &Path,
        commands: mpsc::Receiver<Command>,
    ) -> anyhow::Result<Terms> {
        let generation = match (self.anew, self.swept) {
            (true, Swept::Told | Swept::Untold) => loaded.tables.generation(),
            (false, Swept::Told | Swept::Untold) => self.recovery.generation,
        };
        recorder.recover(self.recovery, &self.remains, Instant::now())?;
        if self.anew {
            recorder.forget_losses();
        }
        recorder.begin()?;
        let book = Book::new(output, loaded.instance, self.since);
        let told = book.told();
        recorder.keep(book, generation);
        let journal = Journal::begin(output, loaded.instance)
            .with_context(|| format!("cannot write to {}", output.display()))?;
        Ok(Terms {
            losses: recorder.told_losses(),
            swept: self.swept,
            journal: Some(journal),
            told,
            commands,
            detach: Arc::new(AtomicBool::new(false)),
        })
    }
}

/// Removes what a pinned daemon has left, in the kernel and beside the logs.
pub(super) fn leave_nothing(pins: Pins, output: &Path) -> anyhow::Result<()> {
    pins.remove()?;
    account::remove(output);
    journal::remove(output);
    Ok(())
}

fn gap(what: GapKind, detail: &str) -> Gap {
    Gap {
        what,
        detail: detail.to_owned(),
        lost: None,
        severity: Severity::Destinations,
    }
}
