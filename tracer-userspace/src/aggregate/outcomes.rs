//! What became of one flow's attempts: what no record has told yet, and what is waited for. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracer_common::outcome::Outcomes;

use crate::record::Outcome;

/// How long after the last attempt it is waited for what became of it, in nanoseconds: longer than
/// Linux tries to connect (127 s, with `tcp_syn_retries` at its default).
const PATIENCE_NS: u64 = 150_000_000_000;

/// Attempts by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub established: u64,
    pub refused: u64,
    pub timeout: u64,
    pub unreachable: u64,
    pub reset: u64,
    pub blocked: u64,
    pub unknown: u64,
}

impl Counts {
    fn pairs(&self) -> [(Outcome, u64); 7] {
        [
            (Outcome::Established, self.established),
            (Outcome::Refused, self.refused),
            (Outcome::Timeout, self.timeout),
            (Outcome::Unreachable, self.unreachable),
            (Outcome::Reset, self.reset),
            (Outcome::Blocked, self.blocked),
            (Outcome::Unknown, self.unknown),
        ]
    }

    /// How many attempts these are.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.pairs().iter().map(|(_, count)| count).sum()
    }

    /// As the log has them.
    #[must_use]
    pub fn by_outcome(&self) -> BTreeMap<Outcome, u64> {
        let pairs = self.pairs().into_iter();
        pairs.filter(|(_, count)| *count > 0).collect()
    }
}

/// What is known of connections beyond that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetimes {
    /// From connect() to established, summed over as many.
    pub latency_ns: u64,
    pub established: u64,
    pub syn_retransmits: u64,
    pub ended: u64,
    /// Of those told as established before.
    pub reset_later: u64,
    pub duration_ns: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Connections that are open, of which the bytes are told ahead.
    #[serde(default)]
    pub still_open: u64,
}

/// Bytes of connections that are open which are told, and come again with their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ahead {
    sent: u64,
    received: u64,
}

/// What became of one flow's attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Those of which it is not known what became of them.
    pending: u64,
    /// When the last of them was made, CLOCK_MONOTONIC.
    last_ns: u64,
    /// Established, and not over.
    open: u64,
    /// Not told.
    untold: Counts,
    lifetimes: Lifetimes,
    #[serde(default)]
    ahead: Ahead,
}

impl Attempts {
    /// Attempts whose outcomes will come.
    pub fn begin(&mut self, count: u64, blocked: u64, last_ns: u64) {
        self.pending += count.saturating_sub(blocked);
        self.untold.blocked += blocked.min(count);
        self.last_ns = self.last_ns.max(last_ns);
    }

    /// Outcomes have come. Of attempts that were given up nothing is counted any more.
    pub fn learn(&mut self, news: &Outcomes) {
        let kinds = [
            (&mut self.untold.established, news.established),
            (&mut self.untold.refused, news.refused),
            (&mut self.untold.timeout, news.timed_out),
            (&mut self.untold.unreachable, news.unreachable),
            (&mut self.untold.unknown, news.abandoned),
        ];
        for (counter, count) in kinds {
            let count = u64::from(count).min(self.pending);
            self.pending -= count;
            *counter += count;
        }
        let ended = u64::from(news.ended);
        self.open = (self.open + u64::from(news.established)).saturating_sub(ended);
        self.reset(u64::from(news.reset));
        let lifetimes = &mut self.lifetimes;
        lifetimes.established += u64::from(news.established);
        lifetimes.latency_ns += news.latency_ns;
        lifetimes.syn_retransmits += u64::from(news.syn_retransmits);
        lifetimes.ended += ended;
        lifetimes.duration_ns += news.duration_ns;
        lifetimes.bytes_sent += untold(news.bytes_sent, &mut self.ahead.sent);
        lifetimes.bytes_received += untold(news.bytes_received, &mut self.ahead.received);
    }

    /// So many connections are open, and so much was said on them. What of that is told now does not
    /// come again with their ends.
    pub fn look(&mut self, open: u64, sent: u64, received: u64) {
        let lifetimes = &mut self.lifetimes;
        lifetimes.still_open = open;
        lifetimes.bytes_sent += sent.saturating_sub(self.ahead.sent);
        lifetimes.bytes_received += received.saturating_sub(self.ahead.received);
        self.ahead.sent = self.ahead.sent.max(sent);
        self.ahead.received = self.ahead.received.max(received);
    }

    /// A reset takes the place of `established`, unless that was told already.
    fn reset(&mut self, count: u64) {
        let untold = count.min(self.untold.established);
        self.untold.established -= untold;
        self.untold.reset += untold;
        self.lifetimes.reset_later += count - untold;
    }

    /// Waits no longer where it was waited long enough, or where `is_over`.
    pub fn give_up(&mut self, now_ns: u64, is_over: bool) {
        if is_over || now_ns.saturating_sub(self.last_ns) > PATIENCE_NS {
            self.untold.unknown += std::mem::take(&mut self.pending);
        }
    }

    /// Of connections that are open nothing more will be heard.
    pub fn forget_open(&mut self) {
        self.open = 0;
    }

    #[must_use]
    pub fn has_news(&self) -> bool {
        self.untold != Counts::default() || self.lifetimes != Lifetimes::default()
    }

    /// Whether more is to be heard of attempts that were made.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.pending > 0 || self.open > 0
    }

    /// What is to be told.
    #[must_use]
    pub fn news(&self) -> (Counts, Lifetimes) {
        (self.untold, self.lifetimes)
    }

    pub fn was_told(&mut self) {
        self.untold = Counts::default();
        self.lifetimes = Lifetimes::default();
    }
}

/// What of `bytes` was not told `ahead`.
fn untold(bytes: u64, ahead: &mut u64) -> u64 {
    let told = bytes.min(*ahead);
    *ahead -= told;
    bytes - told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(count: u64, blocked: u64) -> Attempts {
        let mut attempts = Attempts::default();
        attempts.begin(count, blocked, 10);
        attempts
    }

    #[test]
    fn an_attempt_has_one_outcome() {
        let mut attempts = begun(6, 1);
        attempts.learn(&Outcomes {
            established: 2,
            refused: 1,
            reset: 1,
            ..Outcomes::default()
        });
        let (counts, _) = attempts.news();
        let expected = Counts {
            established: 1,
            reset: 1,
            refused: 1,
            blocked: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
        attempts.was_told();
        attempts.give_up(11, true);
        assert_eq!(attempts.news().0.sum(), 2);
        assert_eq!(attempts.news().0.unknown, 2);
        attempts.forget_open();
        assert!(!attempts.is_waiting());
    }

    #[test]
    fn what_comes_after_giving_up_is_no_second_outcome() {
        let mut attempts = begun(1, 0);
        attempts.give_up(20, false);
        assert!(attempts.is_waiting());
        attempts.give_up(11 + PATIENCE_NS, false);
        assert_eq!(attempts.news().0.unknown, 1);
        attempts.learn(&Outcomes {
            timed_out: 1,
            ..Outcomes::default()
        });
        assert_eq!(attempts.news().0.sum(), 1);
    }

    #[test]
    fn a_reset_after_established_was_told_is_told_apart() {
        let mut attempts = begun(1, 0);
        attempts.learn(&Outcomes {
            established: 1,
            ..Outcomes::default()
        });
        attempts.was_told();
        assert!(attempts.is_waiting());
        attempts.learn(&Outcomes {
            reset: 1,
            ended: 1,
            ..Outcomes::default()
        });
        let (counts, lifetimes) = attempts.news();
        assert_eq!((counts.sum(), lifetimes.reset_later), (0, 1));
        assert!(!attempts.is_waiting());
    }

    #[test]
    fn what_was_told_of_open_connections_is_not_told_again() {
        let ended = |bytes_sent, bytes_received| Outcomes {
            ended: 1,
            bytes_sent,
            bytes_received,
            ..Outcomes::default()
        };
        let mut attempts = begun(2, 0);
        attempts.learn(&Outcomes {
            established: 2,
            ..Outcomes::default()
        });
        let told = |attempts: &mut Attempts| {
            let (_, news) = attempts.news();
            attempts.was_told();
            (news.still_open, news.bytes_sent, news.bytes_received)
        };
        attempts.look(2, 30, 7);
        assert_eq!(told(&mut attempts), (2, 30, 7));
        attempts.look(2, 32, 7);
        assert_eq!(told(&mut attempts), (2, 2, 0));
        attempts.learn(&ended(15, 4));
        assert_eq!(told(&mut attempts), (0, 0, 0));
        attempts.learn(&ended(25, 4));
        // 40 and 8 in all.
        assert_eq!(told(&mut attempts), (0, 8, 1));
        assert!(!attempts.is_waiting());
    }
}
