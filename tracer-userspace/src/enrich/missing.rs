//! What the machine knows to be missing, as gaps.

use super::engine::{info::ContainerInfo, isolation::isolation};
use crate::record::{Gap, GapKind, Severity};

/// A counter, and how much of it a gap has told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) total: u64,
    told: u64,
}

impl Told {
    pub(super) fn news(&mut self) -> Option<u64> {
        let news = self.total - self.told;
        self.told = self.total;
        (news > 0).then_some(news)
    }
}

pub(super) fn other_kernel(info: &ContainerInfo) -> Option<Gap> {
    let runtime = info.oci_runtime.as_deref()?;
    let kind = isolation(runtime)?;
    Some(Gap {
        what: GapKind::OtherKernel,
        detail: format!(
            "the container runs under {runtime} ({}), with a kernel of its own: what it sends is not seen from here (run egress-tracer inside the guest, or capture outside: docs/daemon.md)",
            kind.name()
        ),
        lost: None,
        severity: Severity::Destinations,
    })
}

pub(super) fn unknown_cgroups(lost: u64, is_hosts: bool) -> Gap {
    let (detail, severity) = if is_hosts {
        (
            "flows came from cgroups of which nothing is known any more: they are put down to the host",
            Severity::Detail,
        )
    } else {
        (
            "flows came from cgroups of which nothing is known any more: they are in no log",
            Severity::Destinations,
        )
    };
    Gap {
        what: GapKind::UnknownCgroup,
        detail: detail.to_owned(),
        lost: Some(lost),
        severity,
    }
}

pub(super) fn not_asked(lost: u64) -> Gap {
    Gap {
        what: GapKind::Names,
        detail: "too many containers came at once for the engines to be asked: some are called by their ids".to_owned(),
        lost: Some(lost),
        severity: Severity::Detail,
    }
}
