//! What a recording cost that ended, or was ended, before this one.

use std::time::SystemTime;

use crate::record::{Gap, GapKind, Severity};

/// What happened between the recording before this one and this one.
#[derive(Clone, Debug, PartialEq)]
pub enum Continuity {
    /// Nothing was counted, for the reason that the gap gives.
    Broken(Gap),
    /// The kernel has gone on counting since then, and this recording has all of it.
    Since(SystemTime),
}

impl Default for Continuity {
    /// Nobody recorded.
    fn default() -> Self {
        Self::Broken(away())
    }
}

impl Continuity {
    /// The gap in a log that was written to at `modified` and never since.
    pub(super) fn gap_since(&self, modified: Option<SystemTime>) -> Option<Gap> {
        match self {
            Self::Broken(gap) => Some(gap.clone()),
            Self::Since(since) if modified.is_some_and(|modified| modified >= *since) => None,
            Self::Since(_) => Some(away()),
        }
    }
}

fn away() -> Gap {
    Gap {
        what: GapKind::Downtime,
        detail: "nothing was recorded between the recording before this one and now".to_owned(),
        lost: None,
        severity: Severity::Destinations,
    }
}

pub(super) fn downtime() -> Gap {
    Gap {
        what: GapKind::Downtime,
        detail: "the recording before this one did not end in good order".to_owned(),
        lost: None,
        severity: Severity::Destinations,
    }
}

pub(super) fn unopened(lost: u64) -> Gap {
    Gap {
        what: GapKind::LogWrite,
        detail: "this log could not be opened for a while".to_owned(),
        lost: Some(lost),
        severity: Severity::Destinations,
    }
}

pub(super) fn refused_lines(lost: u64) -> Gap {
    Gap {
        what: GapKind::LogWrite,
        detail: "the disk refused lines of this log".to_owned(),
        lost: Some(lost),
        severity: Severity::Destinations,
    }
}
