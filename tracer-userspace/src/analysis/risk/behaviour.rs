//! Findings from what was observed.

use super::Subject;

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

pub(super) fn never_answered(subject: &Subject<'_>) -> bool {
    let seen = subject.seen;
    seen.is_some_and(|seen| seen.answered == Some(false))
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
