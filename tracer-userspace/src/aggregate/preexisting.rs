//! Connections that were open before the hooks were there, each told once.
//!
//! The hooks come first and the list after them, so that nothing slips between; a connection made
//! in the meantime is in both. So a destination that the hooks have counted by then, of the same
//! cgroup and network namespace, is not taken from the list as well: it may be the same connection.
//! An older one to the same place is then left out of the count, but no destination is.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tracer_common::flow::{FlowKey, channel};

use super::losses::Affected;
use crate::{
    enrich::machine::Concerned,
    inventory::{Inventory, OpenSocket},
    record::{Gap, GapKind, Severity},
};

/// Destinations remembered until the list comes. Beyond that a connection may be counted twice,
/// rather than left out.
const MAX_COUNTED: usize = 1 << 20;

const TOO_MANY: &str = "there were too many (raise --open-sockets)";

/// `IPPROTO_MPTCP`, whose connections are listed as TCP's.
const MPTCP: u16 = 262;
const TCP: u16 = 6;

/// Where somebody went: cgroup, namespace, protocol, address, port.
type Place = (u64, u64, u16, [u8; 16], u16);

/// What the hooks have counted, until the list comes.
#[derive(Debug, Default)]
pub(super) struct Preexisting {
    counted: HashSet<Place>,
    is_over: bool,
    /// Gaps that concern whoever is recorded, now or later: it may have had connections.
    pub(super) for_everybody: Vec<Gap>,
}

impl Preexisting {
    /// Nothing will be listed.
    pub(super) fn never() -> Self {
        Self {
            is_over: true,
            ..Self::default()
        }
    }

    /// The hooks have counted this.
    pub(super) fn counted(&mut self, key: &FlowKey) {
        if !self.is_over && self.counted.len() < MAX_COUNTED {
            self.counted.insert(place(key));
        }
    }

    /// What was open before, and forgets what was counted.
    pub(super) fn news<'i>(
        &mut self,
        inventory: &'i Inventory,
    ) -> impl Iterator<Item = &'i OpenSocket> + use<'i> {
        self.is_over = true;
        let counted = std::mem::take(&mut self.counted);
        inventory.sockets.iter().filter(move |socket| {
            // The hooks do not see whom the peer has called.
            socket.key.channel == channel::PREEXISTING_REPLY
                || !counted.contains(&place(&socket.key))
        })
    }
}

fn place(key: &FlowKey) -> Place {
    let protocol = match key.protocol {
        MPTCP => TCP,
        other => other,
    };
    (
        key.cgroup_id,
        key.netns_cookie,
        protocol,
        key.address,
        key.port,
    )
}

/// What could not be listed. `concerned` tells whose a cgroup id is.
pub(super) fn gaps(
    inventory: &Inventory,
    mut concerned: impl FnMut(u64) -> Concerned,
) -> Vec<Affected> {
    let mut gaps = Vec::new();
    let mut lost = BTreeMap::new();
    for unlisted in &inventory.unlisted {
        if let Some(workload) = workload(concerned(unlisted.cgroup_id)) {
            // Many namespaces of one workload are one gap.
            lost.entry((workload, unlisted.reason.as_str()))
                .or_insert(0_u64);
        }
    }
    for (&cgroup_id, &count) in &inventory.turned_away {
        if let Some(workload) = workload(concerned(cgroup_id)) {
            *lost.entry((workload, TOO_MANY)).or_default() += count;
        }
    }
    for ((workload, reason), lost) in lost {
        let detail = format!("connections that were open already could not be listed: {reason}");
        let lost = (lost > 0).then_some(lost);
        let gap = gap(detail, lost, Severity::Destinations);
        gaps.push(Affected { workload, gap });
    }
    if inventory.owners_unknown {
        let detail = "too many files were open to find the owner of every connection";
        gaps.push(Affected {
            workload: None,
            gap: gap(detail.to_owned(), None, Severity::Detail),
        });
    }
    gaps
}

/// The workload that a loss is told to; `Some(None)` are all of them.
fn workload(concerned: Concerned) -> Option<Option<Arc<str>>> {
    match concerned {
        Concerned::Workload(name) => Some(Some(name)),
        Concerned::Everybody => Some(None),
        Concerned::Nobody => None,
    }
}

fn gap(detail: String, lost: Option<u64>, severity: Severity) -> Gap {
    Gap {
        what: GapKind::Preexisting,
        detail,
        lost,
        severity,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytemuck::Zeroable as _;
    use tracer_common::flow::FlowValue;

    use super::*;
    use crate::inventory::Unlisted;

    fn socket(port: u16, protocol: u16, channel: u8) -> OpenSocket {
        let key = FlowKey {
            port,
            protocol,
            channel,
            ..FlowKey::zeroed()
        };
        OpenSocket {
            key,
            value: FlowValue::zeroed(),
            is_established: true,
        }
    }

    #[test]
    fn what_the_hooks_have_counted_is_not_counted_again() {
        let open = |port| socket(port, TCP, channel::PREEXISTING);
        let reply = socket(1, TCP, channel::PREEXISTING_REPLY);
        let inventory = Inventory {
            sockets: vec![open(1), open(2), open(3), reply],
            ..Inventory::default()
        };
        let mut preexisting = Preexisting::default();
        preexisting.counted(&socket(1, TCP, channel::CONNECT).key);
        preexisting.counted(&socket(3, MPTCP, channel::CONNECT).key);
        let news: Vec<_> = preexisting.news(&inventory).copied().collect();
        assert_eq!(news, [open(2), reply]);
        assert!(preexisting.counted.is_empty());
    }

    #[test]
    fn what_could_not_be_listed_is_a_gap_of_those_that_it_concerns() {
        let unlisted = |cgroup_id| Unlisted {
            cgroup_id,
            reason: "no".to_owned(),
        };
        let inventory = Inventory {
            unlisted: vec![unlisted(1), unlisted(1), unlisted(2), unlisted(3)],
            turned_away: HashMap::from([(1, 5), (4, 2)]),
            owners_unknown: true,
            ..Inventory::default()
        };
        let found = gaps(&inventory, |cgroup_id| match cgroup_id {
            1 => Concerned::Workload("w".into()),
            2 => Concerned::Nobody,
            _ => Concerned::Everybody,
        });
        let told: Vec<_> = found
            .iter()
            .map(|found| {
                (
                    found.workload.as_deref(),
                    found.gap.lost,
                    found.gap.severity,
                )
            })
            .collect();
        let expected = [
            (None, None, Severity::Destinations),
            (None, Some(2), Severity::Destinations),
            (Some("w"), None, Severity::Destinations),
            (Some("w"), Some(5), Severity::Destinations),
            (None, None, Severity::Detail),
        ];
        assert_eq!(told, expected);
        assert_eq!(gaps(&Inventory::default(), |_| Concerned::Everybody), []);
    }
}
