//! Which of an agent's calls a flow is put down to: the rules, on intervals of time. Pure.
//!
//! `docs/markers.md`, *How sure we are*, says them in words. None of them guesses: a call that may
//! have been is among those named, or the answer says that there are more.

use crate::record::Attribution;

/// Calls that are named at most.
pub const NAMED: usize = 16;

/// When a call was open, CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub opened: u64,
    /// `None` while it is open.
    pub closed: Option<u64>,
}

impl Span {
    /// Whether it was open at any time of `from..=to`.
    #[must_use]
    pub fn touches(self, from: u64, to: u64) -> bool {
        self.opened <= to && self.closed.is_none_or(|closed| closed >= from)
    }

    fn covers(self, from: u64, to: u64) -> bool {
        self.opened <= from && self.closed.is_none_or(|closed| closed >= to)
    }
}

/// How a thread came by its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody has said so of this very thread.
    Own,
    /// From the thread that made this one: it may serve anybody.
    Inherited,
    /// It is a program that was started by such a thread as `Own`.
    Kept,
    /// It is a program that was started by such a thread as `Inherited`.
    Unsure,
}

/// What a context says of the thread that it was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// It works for this call and no other.
    Exact,
    /// It works for one of these tasks.
    Tasks,
    /// So do its whole process, and all that it starts.
    Process,
}

/// The calls between which one must choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one call that there is.
    One(Attribution),
    /// Its own calls, and others that were open in its cgroup during a time.
    Among { others: Option<(u64, u64)> },
}

/// The first answer, from the context alone: `own` are its calls' spans, `first` and `last` when the
/// flow was seen.
#[must_use]
pub fn judge(sort: Sort, origin: Origin, own: &[Span], first: u64, last: u64) -> Verdict {
    let certain = |one| match own {
        [_] => Verdict::One(one),
        _several => Verdict::Among { others: None },
    };
    let kept = || {
        let ended = own.iter().filter_map(|span| span.closed).min();
        match ended.filter(|ended| *ended < last) {
            None => certain(Attribution::Process),
            // It may serve others since.
            Some(ended) => Verdict::Among {
                others: Some((ended.max(first), last)),
            },
        }
    };
    match (origin, sort) {
        (Origin::Own, Sort::Exact) => certain(Attribution::Exact),
        (Origin::Own, Sort::Tasks) => certain(Attribution::Window),
        (Origin::Own | Origin::Inherited, Sort::Process)
        | (Origin::Kept | Origin::Unsure, Sort::Process) => kept(),
        (Origin::Kept, Sort::Exact | Sort::Tasks) => kept(),
        (Origin::Inherited, Sort::Exact | Sort::Tasks) => Verdict::Among {
            others: Some((first, last)),
        },
        (Origin::Unsure, Sort::Exact | Sort::Tasks) => {
            let since = own.iter().map(|span| span.opened).min().unwrap_or(0);
            Verdict::Among {
                others: Some((since.min(first), last)),
            }
        }
    }
}

/// What is to be said of a flow that is one of `all`, or none's. `is_kept`: a program that the first
/// of them has started, which stays its own when nobody else comes into question.
#[must_use]
pub fn settle(all: &[Span], is_kept: bool, first: u64, last: u64) -> (Attribution, bool) {
    match all {
        [only] if is_kept || only.covers(first, last) => (Attribution::Process, false),
        _ => (
            Attribution::Ambiguous,
            !is_kept && !are_covering(all, first, last),
        ),
    }
}

/// Whether at each moment of `first..=last` one of them was open.
fn are_covering(all: &[Span], first: u64, last: u64) -> bool {
    let mut sorted: Vec<Span> = all.to_vec();
    sorted.sort_by_key(|span| span.opened);
    let mut until = None;
    for span in sorted {
        if span.opened > until.unwrap_or(first) {
            return false;
        }
        match span.closed {
            None => return true,
            Some(closed) if closed >= until.unwrap_or(first) => until = Some(closed),
            Some(_earlier) => {}
        }
    }
    until.is_some_and(|until| until >= last)
}

#[cfg(test)]
mod tests;
