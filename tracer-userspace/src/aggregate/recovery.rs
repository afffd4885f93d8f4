//! Going on where the daemon before this one stopped, however it ended.

use std::{io, path::Path, sync::Arc, time::Instant};

use tracer_common::flow::{FlowKey, FlowValue};

use super::{
    account::{self, Account, Book, Mark},
    losses::Affected,
    recorded::Recorded,
    recorder::{Output, Recorder, Subject},
    workload::WorkloadError,
};
use crate::{
    decode::event::decode,
    ebpf::{
        journal::{self, Content, Frame},
        losses::Losses,
    },
    output::log::OPEN_SEGMENT,
    record::{Gap, GapKind, Severity},
};

/// What is known of the daemon before this one.
#[derive(Debug, Default)]
pub struct Recovery {
    pub account: Account,
    /// Sweeps that no log has yet.
    pub frames: Vec<Frame>,
    /// The last sweep that is in safe hands.
    pub generation: u64,
    /// Why some of what was counted may be missing.
    pub uncertain: Option<Gap>,
}

/// Why what is in the kernel cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("there is no account of what the logs hold")]
    Absent,
    #[error("the account of what the logs hold cannot be used: {0}")]
    Unreadable(io::Error),
    #[error("the account of what the logs hold is about other tables")]
    OtherInstance,
    #[error("counts left the kernel that no journal has")]
    Incomplete,
}

impl Recovery {
    /// What `directory` says of the kernel's maps `instance`, whose last sweep is `generation`.
    ///
    /// # Errors
    /// It cannot be told for certain what the logs hold.
    pub fn find(directory: &Path, instance: u64, generation: u64) -> Result<Self, Unknown> {
        let account = account::read(directory)
            .map_err(Unknown::Unreadable)?
            .ok_or(Unknown::Absent)?;
        if account.instance != instance {
            return Err(Unknown::OtherInstance);
        }
        let frames = journal::read(directory, instance, account.generation);
        let mut last = account.generation;
        for frame in &frames {
            match frame.content {
                Content::Sweep(_) if frame.generation == last + 1 => last += 1,
                Content::Sweep(_) => return Err(Unknown::Incomplete),
                Content::News(_) => {}
            }
        }
        // The kernel is at most one sweep ahead: it keeps that one until the journal has it.
        if generation > last + 1 {
            return Err(Unknown::Incomplete);
        }
        Ok(Self {
            account,
            frames,
            generation: last,
            uncertain: None,
        })
    }
}

impl Recorder {
    /// Takes in what the daemon before this one had not told, `remains` after it, and from now on
    /// keeps `book` for the next one. Comes before [`Recorder::begin`].
    ///
    /// # Errors
    /// An output directory cannot be written.
    pub fn recover(
        &mut self,
        recovery: Recovery,
        remains: &[(FlowKey, FlowValue)],
        now: Instant,
    ) -> Result<(), WorkloadError> {
        let Recovery {
            account,
            frames,
            generation,
            uncertain,
        } = recovery;
        self.uncertain = uncertain;
        self.losses = account.losses;
        for (name, mark) in &account.logs {
            self.take_over(&name.as_str().into(), mark)?;
        }
        if let Subject::Machine(machine) = &mut self.subject {
            for (cgroup_id, path) in account.cgroups {
                // Those that are gone; for the others this says nothing new.
                machine.cgroup_created(cgroup_id, Some(path), now);
            }
            for container in account.containers {
                machine.recall(container, now);
            }
        }
        for waiting in account.waiting {
            self.table.restore(waiting.key(), waiting.tally);
        }
        for frame in frames {
            match frame.content {
                Content::News(bytes) => {
                    if let Some(event) = decode(&bytes) {
                        self.hear(event, now);
                    }
                }
                Content::Sweep(sweep) => {
                    self.absorb(&sweep.counts, now);
                    self.translate(&sweep.translations);
                    self.table.answer(&sweep.answers);
                    self.table.swept();
                    self.tell_losses(sweep.losses)?;
                }
            }
        }
        self.generation = generation;
        self.absorb(remains, now);
        self.tell_changes()
    }

    /// Says from now on, for the next daemon, what the logs hold. `generation` is the kernel's last
    /// sweep that they or nothing will ever hold.
    pub fn keep(&mut self, book: Book, generation: u64) {
        self.generation = generation;
        self.book = Some(book);
        self.settle_account();
    }

    /// The losses that are told by now.
    #[must_use]
    pub fn told_losses(&self) -> Losses {
        self.losses.clone()
    }

    /// The maps are new ones, in which nothing was lost yet.
    pub fn forget_losses(&mut self) {
        self.losses = Losses::default();
    }

    /// Tells every workload that is open.
    ///
    /// # Errors
    /// An output directory cannot be written.
    pub fn tell_all(&mut self, gap: Gap) -> Result<(), WorkloadError> {
        self.tell_gap(Affected {
            workload: None,
            gap,
        })
    }

    /// A log that the daemon before this one left open: cut back to what is certain, its runs
    /// ended. Those that live on begin again.
    fn take_over(&mut self, name: &Arc<str>, mark: &Mark) -> Result<(), WorkloadError> {
        let Output::PerWorkload(root) = &self.settings.output else {
            return Ok(());
        };
        // Killed between two segments, or somebody took it away.
        if !root.join(&**name).join(OPEN_SEGMENT).exists() {
            return Ok(());
        }
        let run: Arc<str> = mark.last_run.as_str().into();
        let mut opened = Recorded::open(&self.settings, name, &run, Some(mark))?;
        opened.workload.take_over(&run, &self.settings.continuity);
        opened.workload.tell_gap(&run, forgotten_names());
        self.workloads.insert(name.clone(), opened);
        Ok(())
    }
}

/// What was asked and said stays in the memory of the daemon that heard it.
fn forgotten_names() -> Gap {
    Gap {
        what: GapKind::Wire,
        detail: "what the daemon before this one had heard of names is not known any more: flows may lack theirs".to_owned(),
        lost: None,
        severity: Severity::Detail,
    }
}
