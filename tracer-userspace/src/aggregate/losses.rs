//! From the kernel's counters of losses to `gap` records.

use std::{collections::HashMap, sync::Arc};

use tracer_common::limits::loss;

use crate::{
    ebpf::losses::Losses,
    enrich::machine::Concerned,
    record::{Gap, GapKind, Severity},
};

/// A gap, and the workload that it concerns; `None` concerns them all.
#[derive(Clone, Debug, PartialEq)]
pub struct Affected {
    pub workload: Option<Arc<str>>,
    pub gap: Gap,
}

/// What was lost between two readings. `concerned` tells whose a cgroup id is.
pub fn gaps(
    before: &Losses,
    now: &Losses,
    mut concerned: impl FnMut(u64) -> Concerned,
) -> Vec<Affected> {
    let mut gaps = refused(before, now, &mut concerned);
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
        (
            loss::OUTCOMES_FULL,
            GapKind::Outcomes,
            "what became of connections was not counted: there was no room in the flow table (raise --table-entries)",
        ),
        (
            loss::CONNECTIONS_FULL,
            GapKind::Outcomes,
            "connections gave way to newer ones before they were over: how much was said on them, and for how long, is not told",
        ),
        (
            loss::ANSWERS_FULL,
            GapKind::Outcomes,
            "that datagrams were answered was not noted: too many have answered at a time",
        ),
        (
            loss::REPLIES_FULL,
            GapKind::Replies,
            "replies of UDP servers were not counted: more peers than are told",
        ),
        (
            loss::FIRST_UNKNOWN,
            GapKind::Replies,
            "of datagrams from bound UDP sockets it is not known who spoke first: their direction is unknown, and they are no candidates",
        ),
        (
            loss::PROCESS_RING_FULL,
            GapKind::Process,
            "forks, execs or exits were not told: command lines and ancestors of short-lived processes may be missing (raise --process-ring-bytes)",
        ),
        (
            loss::WIRE_RING_FULL,
            GapKind::Wire,
            "DNS messages and first bytes of connections were not told: names may be missing (raise --wire-ring-bytes)",
        ),
        (
            loss::CONTEXTS_FULL,
            GapKind::Tools,
            "threads or processes did not inherit the tool call in which they were made: there are too many; their flows are told as no tool's",
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
    let lost = now.by_reason[loss::TRANSLATIONS_FULL as usize]
        - before.by_reason[loss::TRANSLATIONS_FULL as usize];
    gaps.extend(translations(lost));
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
    concerned: &mut impl FnMut(u64) -> Concerned,
) -> Vec<Affected> {
    let since: HashMap<u64, u64> = now
        .refused
        .iter()
        .map(|(id, total)| (*id, total - before.refused.get(id).unwrap_or(&0)))
        .filter(|(_, lost)| *lost > 0)
        .collect();
    let mut sums = by_workload(&since, concerned);
    let rest = now.unattributed - before.unattributed;
    if rest > 0 {
        *sums.entry(None).or_default() += rest;
    }
    let table_was_full =
        now.by_reason[loss::TABLE_FULL as usize] > before.by_reason[loss::TABLE_FULL as usize];
    sums.into_iter()
        .map(|(workload, lost)| Affected {
            workload,
            gap: refusal(lost, table_was_full),
        })
        .collect()
}

/// Processes that were forgotten too early, by cgroup id.
pub fn forgotten(
    evicted: &HashMap<u64, u64>,
    mut concerned: impl FnMut(u64) -> Concerned,
) -> Vec<Affected> {
    by_workload(evicted, &mut concerned)
        .into_iter()
        .map(|(workload, lost)| Affected {
            workload,
            gap: Gap {
                what: GapKind::Process,
                detail: "processes were forgotten too early: their command lines may be missing (raise --process-memory)".to_owned(),
                lost: Some(lost),
                severity: Severity::Detail,
            },
        })
        .collect()
}

/// Messages of markers for which there was no room, by cgroup id.
pub fn calls_refused(
    refused: &HashMap<u64, u64>,
    mut concerned: impl FnMut(u64) -> Concerned,
) -> Vec<Affected> {
    by_workload(refused, &mut concerned)
        .into_iter()
        .map(|(workload, lost)| Affected {
            workload,
            gap: Gap {
                what: GapKind::Tools,
                detail: "tool calls found no room (raise --mark-calls) or could not be heard in time: their flows are told as ambiguous or no tool's".to_owned(),
                lost: Some(lost),
                severity: Severity::Detail,
            },
        })
        .collect()
}

/// Flows that were marked, by somebody who is not known any more.
pub fn contexts_unknown(lost: u64) -> Option<Affected> {
    everybody(
        GapKind::Tools,
        lost,
        "flows belong to tool calls that are not known any more: they are told as ambiguous",
        Severity::Detail,
    )
}

/// Spans that were received and could not be kept.
pub fn spans_lost(lost: u64) -> Option<Affected> {
    everybody(
        GapKind::Tools,
        lost,
        "spans found no room: flows of their time are told as no tool's, or as those of others",
        Severity::Detail,
    )
}

/// Of what was selected. What cannot be attributed is `None`'s.
fn by_workload(
    by_cgroup: &HashMap<u64, u64>,
    concerned: &mut impl FnMut(u64) -> Concerned,
) -> HashMap<Option<Arc<str>>, u64> {
    let mut sums: HashMap<Option<Arc<str>>, u64> = HashMap::new();
    for (cgroup_id, lost) in by_cgroup {
        let workload = match concerned(*cgroup_id) {
            Concerned::Workload(name) => Some(name),
            Concerned::Everybody => None,
            Concerned::Nobody => continue,
        };
        *sums.entry(workload).or_default() += lost;
    }
    sums
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

/// What userspace had no room for.
pub fn translations(lost: u64) -> Option<Affected> {
    everybody(
        GapKind::Translation,
        lost,
        "a destination was rewritten to more places than are kept: rules may lack some",
        Severity::Destinations,
    )
}

/// What the host rewrites that could not be put down to a flow.
pub fn host_rewrites(lost: u64) -> Option<Affected> {
    everybody(
        GapKind::Translation,
        lost,
        "the host rewrote connections that could not be put down to a flow: rules for forwarded traffic may lack where they went",
        Severity::Detail,
    )
}

/// What Unix sockets are called that was not kept for as long as it was needed.
pub fn socket_names(lost: u64) -> Option<Affected> {
    everybody(
        GapKind::SocketNames,
        lost,
        "what Unix sockets are called that lead out was not kept: their records have no path",
        Severity::Detail,
    )
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
        losses.settle();
        losses
    }

    #[test]
    fn a_flood_costs_only_the_workload_that_flooded() {
        let before = losses(0, 10, 0, &[(7, 10)]);
        let now = losses(0, 15, 0, &[(7, 15)]);
        let found = gaps(&before, &now, |id| {
            Concerned::Workload(format!("w{id}").into())
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].workload.as_deref(), Some("w7"));
        assert_eq!(found[0].gap.lost, Some(5));
        assert_eq!(found[0].gap.what, GapKind::CgroupQuota);
        assert_eq!(found[0].gap.severity, Severity::Destinations);
    }

    #[test]
    fn what_no_cgroup_accounts_for_concerns_all() {
        let found = gaps(&Losses::default(), &losses(3, 0, 0, &[(7, 1)]), |_| {
            Concerned::Workload("w".into())
        });
        let rest: Vec<_> = found.iter().filter(|gap| gap.workload.is_none()).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].gap.lost, Some(2));
    }

    #[test]
    fn a_full_ring_costs_detail() {
        let found = gaps(&Losses::default(), &losses(0, 0, 4, &[]), |_| {
            Concerned::Nobody
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].gap.severity, Severity::Detail);
    }

    #[test]
    fn what_is_refused_while_the_counters_are_read_is_told_once() {
        // The cgroup's own counter was read a moment after the sum, and is 5 ahead.
        let first = losses(0, 100, 0, &[(7, 105)]);
        let mut second = losses(0, 150, 0, &[(7, 150)]);
        second.unattributed = first.unattributed;
        second.settle();
        let mine = |_| Concerned::Workload("w".into());
        let told = [
            gaps(&Losses::default(), &first, mine),
            gaps(&first, &second, mine),
        ]
        .concat();
        assert!(told.iter().all(|gap| gap.workload.is_some()), "{told:?}");
        let lost: u64 = told.iter().filter_map(|gap| gap.gap.lost).sum();
        assert_eq!(lost, 150);
    }

    #[test]
    fn what_nobody_asked_to_record_is_no_gap() {
        let now = losses(0, 5, 0, &[(7, 5)]);
        assert_eq!(gaps(&Losses::default(), &now, |_| Concerned::Nobody), []);
    }

    #[test]
    fn no_loss_no_gap() {
        let now = losses(1, 2, 3, &[(7, 3)]);
        assert_eq!(gaps(&now, &now, |_| Concerned::Nobody), []);
    }
}
