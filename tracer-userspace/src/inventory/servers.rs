//! UDP sockets that were bound before the hooks were there, marked by the kernel itself.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use super::{Inventory, Request, namespaces};
use crate::ebpf::sys;

/// Has `iterator` run in every network namespace. Where one cannot be entered, the replies of its
/// servers are taken for egress. Blocks for a fraction of a millisecond for each namespace.
pub fn mark(proc: PathBuf, iterator: &OwnedFd) {
    let request = Request {
        proc,
        cgroup_mount: PathBuf::new(),
        max_sockets: 0,
    };
    // Of who may not be looked at the list of open connections tells.
    let found = namespaces::find(&request, &mut Inventory::default());
    let mut not_entered = Inventory::default();
    namespaces::visit(&request, found, &mut not_entered, |_inventory| {
        sys::iterate(iterator.as_fd())
    });
    if let [first, ..] = &not_entered.unlisted[..] {
        tracing::warn!(
            "the UDP servers of {} network namespace(s) are not known: {}",
            not_entered.unlisted.len(),
            first.reason
        );
    }
}
