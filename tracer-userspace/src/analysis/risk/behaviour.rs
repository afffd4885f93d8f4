//! Findings from what was observed.

use super::Subject;
use crate::record::Outcome;

/// Below it, sending more than one receives is an ordinary request.
const MUCH_SENT: u64 = 1_000_000;
const TIMES_RECEIVED: u64 = 10;

pub(super) fn writable_path(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.writable_path)
}

pub(super) fn sends_more(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| {
        seen.bytes_sent >= MUCH_SENT
            && seen.bytes_sent >= seen.bytes_received.saturating_mul(TIMES_RECEIVED)
    })
}

/// Where no outcome is known, nothing is said.
pub(super) fn never_answered(subject: &Subject<'_>) -> bool {
    let Some(seen) = subject.seen else {
        return false;
    };
    let of = |outcome: Outcome| seen.outcomes.get(&outcome).copied().unwrap_or(0);
    let failed: u64 = [
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::Unreachable,
        Outcome::Blocked,
    ]
    .into_iter()
    .map(of)
    .sum();
    // A connection that was reset later was answered first.
    let answered = of(Outcome::Established).saturating_add(of(Outcome::Reset));
    failed > 0 && answered == 0 && of(Outcome::Unknown) == 0 && seen.bytes_received == 0
}

pub(super) fn one_run(subject: &Subject<'_>) -> bool {
    subject
        .seen
        .is_some_and(|seen| seen.runs <= 1 && seen.runs_recorded > 1)
}

pub(super) fn name_mismatch(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.naming.is_mismatch)
}

pub(super) fn claimed_name(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.naming.is_claimed)
}

pub(super) fn shared_address(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.naming.is_shared)
}

pub(super) fn incomplete(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.incomplete)
}
