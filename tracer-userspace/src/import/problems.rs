//! What could not be read: all of it counted, the first few kept to be shown.

use std::fmt;

/// How many problems are kept.
const SHOWN: usize = 5;

/// One line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub input: String,
    /// Counted from 1.
    pub line: u64,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            input,
            line,
            reason,
        } = self;
        write!(f, "{input}:{line}: {reason}")
    }
}

/// Every problem of an import. Texts come from the inputs: escape them before printing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    count: u64,
    shown: Vec<Problem>,
}

impl Problems {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first few.
    #[must_use]
    pub fn shown(&self) -> &[Problem] {
        &self.shown
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(problem);
        }
    }
}
