//! From the kernel's counters of losses to `gap` records.

use std::{collections::HashMap, sync::Arc};

use tracer_common::limits::loss;

use crate::{
    ebpf::capture::Losses,
    record::{Gap, GapKind, Severity},
};

/// A gap, and the workload that it concerns; `None` concerns them all.
#[derive(Clone, Debug, PartialEq)]
pub struct Affected {
    pub workload: Option<Arc<str>>,
    pub gap: Gap,
}

/// What was lost between two readings. `workload_of` names the workload of a cgroup id.
pub fn gaps(
    before: &Losses,
    now: &Losses,
    mut workload_of: impl FnMut(u64) -> Option<Arc<str>>,
) -> Vec<Affected> {
    let mut gaps = refused(before, now, &mut workload_of);
    let detail = [
        (
            loss::RING_FULL,
            GapKind::Ring,
            "events were not sent: command lines of short-lived processes may be missing, counts are right",
        ),
        (
            loss::SOCKET_STORAGE,
            GapKind::SocketStorage,
            "connected datagram sockets were counted as if they had sent",
        ),
    ];
    for (reason, kind, text) in detail {
        let lost = now.by_reason[reason as usize] - before.by_reason[reason as usize];
        gaps.extend(everybody(kind, lost, text, Severity::Detail));
    }
    let lost = now.by_reason[loss::NO_TABLE as usize] - before.by_reason[loss::NO_TABLE as usize];
    gaps.extend(everybody(
        GapKind::FlowTable,
        lost,
        "observations came before there was a flow table",
        Severity::Destinations,
    ));
    let lost = now.undecodable - before.undecodable;
    gaps.extend(everybody(
        GapKind::Undecodable,
        lost,
        "events could not be decoded",
        Severity::Detail,
    ));
    gaps
}

fn refused(
    before: &Losses,
    now: &Losses,
    workload_of: &mut impl FnMut(u64) -> Option<Arc<str>>,
) -> Vec<Affected> {
    let mut by_workload: HashMap<Option<Arc<str>>, u64> = HashMap::new();
    for (cgroup_id, total) in &now.refused {
        let lost = total - before.refused.get(cgroup_id).unwrap_or(&0);
        if lost > 0 {
            *by_workload.entry(workload_of(*cgroup_id)).or_default() += lost;
        }
    }
    let rest = unattributed(now).saturating_sub(unattributed(before));
    if rest > 0 {
        *by_workload.entry(None).or_default() += rest;
    }
    let table_was_full =
        now.by_reason[loss::TABLE_FULL as usize] > before.by_reason[loss::TABLE_FULL as usize];
    by_workload
        .into_iter()
        .map(|(workload, lost)| Affected {
            workload,
            gap: refusal(lost, table_was_full),
        })
        .collect()
}

/// Refused where no cgroup's counter could be had. Totals are compared, not differences: the
/// cgroups' counters are read a moment after the losses and may be ahead of them, which the next
/// difference would take for a loss that concerns all.
fn unattributed(losses: &Losses) -> u64 {
    let total =
        losses.by_reason[loss::TABLE_FULL as usize] + losses.by_reason[loss::QUOTA_FULL as usize];
    total.saturating_sub(losses.refused.values().sum())
}

fn refusal(lost: u64, table_was_full: bool) -> Gap {
    let (what, detail) = if table_was_full {
        (
            GapKind::FlowTable,
            "the flow table was full: observations were not counted (raise --table-entries)",
        )
    } else {
        (
            GapKind::CgroupQuota,
            "the workload had used up its share of the flow table: observations were not counted (raise --cgroup-quota)",
        )
    };
    Gap {
        what,
        detail: detail.to_owned(),
        lost: Some(lost),
        severity: Severity::Destinations,
    }
}

fn everybody(what: GapKind, lost: u64, detail: &str, severity: Severity) -> Option<Affected> {
    let gap = Gap {
        what,
        detail: detail.to_owned(),
        lost: Some(lost),
        severity,
    };
    (lost > 0).then_some(Affected {
        workload: None,
        gap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(table: u64, quota: u64, ring: u64, refused: &[(u64, u64)]) -> Losses {
        let mut losses = Losses::default();
        losses.by_reason[loss::TABLE_FULL as usize] = table;
        losses.by_reason[loss::QUOTA_FULL as usize] = quota;
        losses.by_reason[loss::RING_FULL as usize] = ring;
        losses.refused = refused.iter().copied().collect();
        losses
    }

    #[test]
    fn a_flood_costs_only_the_workload_that_flooded() {
        let before = losses(0, 10, 0, &[(7, 10)]);
        let now = losses(0, 15, 0, &[(7, 15)]);
        let found = gaps(&before, &now, |id| Some(format!("w{id}").into()));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].workload.as_deref(), Some("w7"));
        assert_eq!(found[0].gap.lost, Some(5));
        assert_eq!(found[0].gap.what, GapKind::CgroupQuota);
        assert_eq!(found[0].gap.severity, Severity::Destinations);
    }

    #[test]
    fn what_no_cgroup_accounts_for_concerns_all() {
        let found = gaps(&Losses::default(), &losses(3, 0, 0, &[(7, 1)]), |_| {
            Some("w".into())
        });
        let rest: Vec<_> = found.iter().filter(|gap| gap.workload.is_none()).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].gap.lost, Some(2));
    }

    #[test]
    fn a_cgroups_counter_that_is_ahead_accuses_nobody_else() {
        let first = losses(0, 10, 0, &[(7, 12)]);
        let second = losses(0, 20, 0, &[(7, 20)]);
        let w7 = |_| Some("w7".into());
        let found = [
            gaps(&Losses::default(), &first, w7),
            gaps(&first, &second, w7),
        ]
        .concat();
        assert!(found.iter().all(|gap| gap.workload.is_some()), "{found:?}");
        let lost: u64 = found.iter().filter_map(|gap| gap.gap.lost).sum();
        assert_eq!(lost, 20);
    }

    #[test]
    fn a_full_ring_costs_detail() {
        let found = gaps(&Losses::default(), &losses(0, 0, 4, &[]), |_| None);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].gap.severity, Severity::Detail);
    }

    #[test]
    fn no_loss_no_gap() {
        let now = losses(1, 2, 3, &[(7, 3)]);
        assert_eq!(gaps(&now, &now, |_| None), []);
    }
}
