//! Findings from what was observed.

use super::Subject;
use crate::record::{Channel, Outcome};

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

/// An attempt of which nothing is known does not count as answered where it is a connection that was
/// followed. Of datagrams, and of what other tools tell, nothing is said where nothing is known.
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
    let unknown = of(Outcome::Unknown);
    let was_followed = seen.channels.iter().eq([&Channel::Connect]);
    let has_failed = failed > 0 && unknown == 0 || was_followed && failed + unknown > 0;
    has_failed && answered == 0 && seen.bytes_received == 0
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

pub(super) fn other_tool(subject: &Subject<'_>) -> bool {
    let Some((tools, seen)) = subject.entry.tools.as_ref().zip(subject.seen) else {
        return false;
    };
    seen.tools.iter().any(|tool| !tools.contains(tool))
}

pub(super) fn outside_tools(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.outside_tools)
}

pub(super) fn incomplete(subject: &Subject<'_>) -> bool {
    subject.seen.is_some_and(|seen| seen.incomplete)
}
