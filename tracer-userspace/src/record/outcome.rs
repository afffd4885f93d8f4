//! `Outcome`: what became of an attempt.

use serde::{Deserialize, Serialize};

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Established,
    Refused,
    Timeout,
    Unreachable,
    Reset,
    Blocked,
    Unknown,
}

impl Outcome {
    /// As the log spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }
}
