//! What passes between the reading task and the aggregation: batches one way, commands the other.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::{mpsc, watch};
use tracer_common::{
    flow::{FlowKey, FlowValue},
    socket::Answer,
    translation::Translation,
};

use super::{clock::ClockSample, journal::Journal, losses::Losses};
use crate::{
    conntrack::Listing,
    decode::{event::Event, process::ProcessEvent, wire::Piece},
    inventory::{Inventory, open::SoFar},
};

/// What the kernel told, in the order in which it is to be taken in.
#[derive(Debug)]
pub enum Batch {
    /// News: no counts.
    News(Vec<Event>),
    /// What processes did before the flows that follow.
    Processes(Vec<ProcessEvent>),
    /// What was said on the wire before the flows that follow were counted.
    Wire(Vec<Piece>),
    /// Counts since the last sweep.
    Counts(Vec<(FlowKey, FlowValue)>, ClockSample),
    /// What left in place of what was asked for, since the last sweep.
    Translations(Vec<Translation>),
    /// What was said on connections that are open, whose counts were told.
    Open(HashMap<FlowKey, SoFar>),
    /// From where datagrams have come back, since the last sweep.
    Answers(Vec<Answer>),
    /// What Unix sockets are called that the counts which follow may be about, by the key's word.
    SocketNames(Vec<(u64, String)>),
    /// What the host has rewritten by now.
    Rewritten(Listing),
    /// Connections that were open before the hooks were there. Whatever was counted between the
    /// two has been told.
    Preexisting(Inventory),
    /// Everything up to `began` was counted; the losses so far.
    Swept {
        losses: Losses,
        reason: SweepReason,
        began: ClockSample,
        /// Which sweep it was: they are numbered without gaps, and adopted with the tables.
        generation: u64,
    },
    /// A cgroup that was asked for has the hooks, since `at_ns` of CLOCK_MONOTONIC. What processes
    /// did before that was told.
    Attached { cgroup_id: u64, at_ns: u64 },
    /// The hooks could not be attached to a cgroup that was asked for.
    NotAttached { cgroup_id: u64, reason: String },
    /// A container was gone before hooks could be attached to it.
    CameAndWent { cgroup_id: u64 },
}

/// What the aggregation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach the hooks to a cgroup.
    Attach { cgroup_id: u64, path: PathBuf },
    /// Detach them again; what was counted stays.
    Detach { cgroup_id: u64 },
    /// Sweep now, for something that is to be told at once.
    Sweep,
}

/// Counts that were swept before this process began, and are still in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// No log and no journal has them.
    Untold,
    /// They are told, or cannot be told any more.
    Told,
}

/// How the task begins, what it hears from others, and how it ends.
#[derive(Debug)]
pub struct Terms {
    /// What the logs have told of losses already.
    pub losses: Losses,
    pub swept: Swept,
    /// Where counts go before they leave the kernel; `None` if nothing outlives this process.
    pub journal: Option<Journal>,
    /// Up to which sweep the logs hold everything.
    pub told: watch::Receiver<u64>,
    pub commands: mpsc::Receiver<Command>,
    /// Whether to detach at the end. Read then.
    pub detach: Arc<AtomicBool>,
}

impl Terms {
    /// Begins with empty tables and leaves nothing.
    #[must_use]
    pub fn unpinned(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            losses: Losses::default(),
            swept: Swept::Told,
            journal: None,
            told: watch::channel(0).1,
            commands,
            detach: Arc::new(AtomicBool::new(true)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepReason {
    /// The table was filling.
    Pressure,
    /// Somebody asked: something is to be told at once.
    News,
    /// An interval has ended.
    Interval,
    /// Nothing will follow from this process.
    End,
}
