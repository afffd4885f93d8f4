//! `policy.toml` as text: reading it strictly, writing a fresh one, merging news into one that
//! people have edited.

mod edit;
pub(crate) mod fields;
#[cfg(test)]
mod hostile;
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

/// How the line begins that names hooks which the recording kernels lacked.
const LACKING: &str = "# NOT EVERY WAY OUT WAS SEEN: the recording kernel lacked ";
const WHY: &str = ". The evidence file beside this one says what that leaves out.";

/// `text` with the marks at its head that it is to have, and without others: of incomplete evidence,
/// and of hooks that were `lacking`.
#[must_use]
pub fn marked(text: &str, incomplete: bool, lacking: Option<&str>) -> String {
    let is_mark = |line: &str| line.trim_end() == INCOMPLETE || line.starts_with(LACKING);
    let lines = text.split_inclusive('\n');
    let rest: String = lines.skip_while(|line| is_mark(line)).collect();
    let incomplete = incomplete.then(|| format!("{INCOMPLETE}\n"));
    let lacking = lacking.map(|hooks| format!("{LACKING}{hooks}{WHY}\n"));
    incomplete
        .into_iter()
        .chain(lacking)
        .chain([rest])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_and_go() {
        let both = marked("a\nb\n", true, Some("unix"));
        assert_eq!(both, format!("{INCOMPLETE}\n{LACKING}unix{WHY}\na\nb\n"));
        assert_eq!(marked(&both, true, Some("unix")), both);
        assert_eq!(
            marked(&both, false, Some("x, y")),
            format!("{LACKING}x, y{WHY}\na\nb\n")
        );
        assert_eq!(marked(&both, false, None), "a\nb\n");
    }
}
