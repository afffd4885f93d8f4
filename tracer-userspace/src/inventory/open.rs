//! What has been said by now on connections that are open, asked of the kernel: it is told with a
//! connection's end otherwise.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use tracer_common::flow::FlowKey;

use super::{Inventory, Request, namespaces, sockets};
use crate::ebpf::sys;

/// What was said on the connections of one flow that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    pub connections: u64,
    /// Payload, each byte once.
    pub sent: u64,
    pub received: u64,
}

/// What was said on those of `open`, by their sockets' cookies, that are there. Of a namespace that
/// cannot be entered nothing is told. Blocks for a few milliseconds for each namespace.
#[must_use]
pub fn so_far(proc: PathBuf, open: &HashMap<u64, FlowKey>) -> HashMap<FlowKey, SoFar> {
    let wanted: HashSet<u64> = open.values().map(|key| key.netns_cookie).collect();
    let mut found: HashMap<FlowKey, SoFar> = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    let request = Request {
        proc,
        cgroup_mount: PathBuf::new(),
        max_sockets: 0,
    };
    let mut unlisted = Inventory::default();
    let visited = namespaces::find(&request, &mut unlisted);
    namespaces::visit(&request, visited, &mut unlisted, |_unlisted| {
        // One that cannot be told from others may be wanted.
        let cookie = sys::own_netns_cookie();
        if cookie.is_ok_and(|cookie| !wanted.contains(&cookie)) {
            return Ok(());
        }
        sockets::said(|cookie, said| {
            if let Some(&key) = open.get(&cookie) {
                let sum = found.entry(key).or_default();
                sum.connections += 1;
                sum.sent += said.sent;
                sum.received += said.received;
            }
        })
    });
    found
}
