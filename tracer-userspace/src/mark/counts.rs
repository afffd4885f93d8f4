//! What was heard and what was refused, for `stats` and `gap` records.

use std::collections::{BTreeMap, HashMap};

/// Totals since the daemon began; they only grow.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub connections: u64,
    /// Closed at once: too many, or of a process that cannot be seen.
    pub connections_refused: u64,
    pub messages: u64,
    /// Messages that changed nothing, by the code of the refusal.
    pub refused: BTreeMap<&'static str, u64>,
    /// Calls that could not be kept or not be heard, by cgroup: since the last gap.
    pub untold: HashMap<u64, u64>,
    /// How often a process became one of which not everything is known.
    pub doubts: u64,
    pub begun: u64,
    /// Calls whose end nobody told.
    pub unended: u64,
    /// Calls that were forgotten to make room.
    pub forgotten: u64,
    /// Flows whose context is not known any more: since the last gap, and in all.
    pub unknown: u64,
    pub all_unknown: u64,
}

impl Counts {
    /// For a `stats` record.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let refused = |code| self.refused.get(code).copied().unwrap_or(0);
        vec![
            ("mark_connections", self.connections),
            ("mark_connections_refused", self.connections_refused),
            ("mark_messages", self.messages),
            ("mark_malformed", refused("malformed") + refused("version")),
            ("mark_not_yours", refused("not-yours")),
            ("mark_no_thread", refused("no-thread")),
            (
                "mark_unknown_call",
                refused("unknown-call") + refused("duplicate-call"),
            ),
            ("mark_no_room", refused("limit")),
            ("mark_doubts", self.doubts),
            ("calls_begun", self.begun),
            ("calls_unended", self.unended),
            ("calls_forgotten", self.forgotten),
            ("contexts_unknown", self.all_unknown),
        ]
    }
}
