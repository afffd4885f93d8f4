//! `Drift`: one difference, its kind, and how much it matters.

use serde::Serialize;

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Observed, although it is denied.
    Denied,
    /// Observed, and no entry knows the destination.
    New,
    /// Observed at an approved destination, on a port or protocol, for a tool or by a process that is
    /// not approved there, or rewritten to a place that is not.
    Changed,
    /// Observed, and still a candidate.
    Unreviewed,
    /// Observed, and its approval is over.
    Expired,
    /// Its approval is soon over.
    Expiring,
    /// Approved, and not observed.
    Stale,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Warning,
    Error,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub kind: Kind,
    pub level: Level,
    /// An address, network or name.
    pub to: String,
    pub service: String,
    /// In one sentence. Texts come from the workload and the policy: escape them.
    pub detail: String,
    /// The entry that it is about, from 0, in the policy with its bases.
    #[serde(skip)]
    pub entry: Option<usize>,
}

impl Kind {
    /// Every kind, worst first.
    pub const ALL: [Self; 7] = [
        Self::Denied,
        Self::New,
        Self::Changed,
        Self::Unreviewed,
        Self::Expired,
        Self::Expiring,
        Self::Stale,
    ];

    /// As the output spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unreviewed => "unreviewed",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::Stale => "stale",
        }
    }

    /// In one sentence, for people who see the word for the first time.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Denied => "Observed although it is denied.",
            Self::New => "Observed, and no entry knows the destination.",
            Self::Changed => {
                "Observed at an approved destination, with a service, for a tool or by a process \
                 not approved there, or rewritten to a place not approved there."
            }
            Self::Unreviewed => "Observed, and nobody has decided on it.",
            Self::Expired => "Observed, and its approval is over.",
            Self::Expiring => "Its approval is soon over.",
            Self::Stale => "Approved, and not observed.",
        }
    }

    pub(super) fn level(self) -> Level {
        match self {
            Self::Denied | Self::New | Self::Changed | Self::Unreviewed | Self::Expired => {
                Level::Error
            }
            Self::Expiring | Self::Stale => Level::Warning,
        }
    }
}
