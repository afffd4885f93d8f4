//! `policy.toml` as text: reading it strictly, writing a fresh one, merging news into one that
//! people have edited.

mod edit;
pub(crate) mod fields;
mod layout;
mod merge;
mod read;

pub use edit::{add, decide, lines, remove, set_processes, set_width};
use fields::line_at;
pub(in crate::policy) use merge::rest;
pub use merge::{fresh, merge};
pub use read::parse;
#[cfg(test)]
pub(in crate::policy) use read::{ENTRY_KEYS, POLICY_KEYS};

/// The line at the head of a policy whose evidence is incomplete.
pub const INCOMPLETE: &str = "# INCOMPLETE EVIDENCE: destinations may be missing. The evidence file beside this one says why.";

/// Why a text is not a policy, in one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct DocumentError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// `text` with the mark of incomplete evidence at its head, or without it.
#[must_use]
pub fn marked(text: &str, incomplete: bool) -> String {
    let is_mark = |line: &str| line.trim_end() == INCOMPLETE;
    let is_marked = text.lines().next().is_some_and(is_mark);
    match (incomplete, is_marked) {
        (true, false) => format!("{INCOMPLETE}\n{text}"),
        (false, true) => text
            .split_once('\n')
            .map_or("", |(_, rest)| rest)
            .to_owned(),
        (true, true) | (false, false) => text.to_owned(),
    }
}
