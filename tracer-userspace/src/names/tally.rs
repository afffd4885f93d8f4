//! `Tally`: what was done with answers, and what was not.

use std::fmt;

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Answers that somebody had asked for.
    pub(crate) answers: u64,
    /// Addresses put into sets, again ones too.
    pub(crate) added: u64,
    /// Answers that nobody had asked for: not believed.
    pub(crate) unasked: u64,
    /// Packets, messages and records that could not be read.
    pub(crate) malformed: u64,
    /// Addresses that no name may lead to: loopback, link, metadata, multicast.
    pub(crate) refused: u64,
    /// Addresses for which a set had no room.
    pub(crate) full: u64,
    /// Addresses that could not be put into a set for another reason.
    pub(crate) failed: u64,
    /// Questions and streams forgotten for want of room.
    pub(crate) forgotten: u64,
}

impl Tally {
    /// What went wrong, in one number that only grows.
    pub(crate) fn troubles(&self) -> u64 {
        let Self {
            answers: _,
            added: _,
            unasked,
            malformed,
            refused,
            full,
            failed,
            forgotten,
        } = self;
        unasked + malformed + refused + full + failed + forgotten
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answers,
            added,
            unasked,
            malformed,
            refused,
            full,
            failed,
            forgotten,
        } = self;
        write!(
            f,
            "{answers} answer(s), {added} address(es) added; {unasked} unasked, {malformed} \
             malformed, {refused} refused, {full} without room, {failed} failed, {forgotten} \
             forgotten"
        )
    }
}
