//! Spans that agents export, and the flows that wait for them.
//!
//! A span is told when it is over, and exporters wait some seconds for more. So a flow waits as
//! long before it is written, unless its container is gone or the recording ends.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    collector::Collector,
    record::{Flow, Tool},
    spans::{
        book::Book,
        flow::{nanoseconds, tool},
    },
};

/// How long spans are remembered after their end: flows that wait for a container's name, and
/// outcomes that come late, are told within that.
const REMEMBERED_NS: u64 = 15 * 60 * 1_000_000_000;

/// What has been told, and what is still to come.
#[derive(Debug)]
pub struct Spans {
    collector: Collector,
    book: Book,
    wait: Duration,
    others: u64,
    damaged: u64,
    /// Too many for one request.
    too_many: u64,
    /// Of all that found no room, those of which a gap has told.
    told: u64,
}

impl Spans {
    #[must_use]
    pub fn new(collector: Collector, wait: Duration) -> Self {
        Self {
            collector,
            book: Book::default(),
            wait,
            others: 0,
            damaged: 0,
            too_many: 0,
            told: 0,
        }
    }

    /// Takes in what has come.
    pub(super) fn take_in(&mut self, now: Timestamp) {
        while let Some(decoded) = self.collector.take() {
            self.others += decoded.others;
            self.damaged += decoded.damaged;
            self.too_many += decoded.too_many;
            self.book.add(decoded.spans);
        }
        let now = nanoseconds(now);
        self.book.forget_before(now.saturating_sub(REMEMBERED_NS));
    }

    /// Spans that found no room, since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        let all = self.too_many + self.book.given_way;
        all - std::mem::replace(&mut self.told, all)
    }

    /// How long a flow waits, in nanoseconds.
    pub(super) fn wait_ns(&self) -> u64 {
        u64::try_from(self.wait.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whose call a flow was, as far as times tell.
    pub(super) fn tool(&self, flow: &Flow, workload: &str, is_one_command: bool) -> Option<Tool> {
        tool(&self.book, flow, workload, is_one_command)
    }

    /// For a `stats` record.
    pub(super) fn counters(&self) -> [(&'static str, u64); 6] {
        let counts = self.collector.counts();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("spans_requests", read(&counts.requests)),
            ("spans_refused", read(&counts.refused)),
            ("spans_no_room", read(&counts.no_room)),
            ("spans_others", self.others),
            ("spans_damaged", self.damaged),
            ("spans_given_way", self.book.given_way),
        ]
    }
}
