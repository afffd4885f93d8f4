//! Visiting every network namespace that a process is in.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use nix::sched::{CloneFlags, setns};

use super::{Inventory, Request, Unlisted};

/// Namespaces that are visited. Whoever may make user namespaces can make any number of them.
const MAX_NAMESPACES: usize = 4096;

/// Processes remembered of each, should one end meanwhile.
const WITNESSES: usize = 8;

/// Processes by the namespace they are in.
pub(super) type Found = BTreeMap<(u64, u64), Vec<u32>>;

/// Calls `list` in every namespace that was found, on a thread that is made for this: it does not come back to
/// the namespace it began in.
pub(super) fn visit(
    request: &Request,
    mut found: Found,
    inventory: &mut Inventory,
    mut list: impl FnMut(&mut Inventory) -> io::Result<()> + Send,
) {
    let own = fs::metadata(request.proc.join("thread-self/ns/net"))
        .map_or((0, 0), |namespace| (namespace.dev(), namespace.ino()));
    // Where the thread begins: entering it would take a privilege for nothing.
    if found.remove(&own).is_some()
        && let Err(error) = list(inventory)
    {
        let pids = [std::process::id()];
        inventory.unlisted.push(unlisted(request, &pids, &error));
    }
    let (visited, beyond): (Vec<_>, Vec<_>) = found
        .into_values()
        .enumerate()
        .partition(|(index, _)| *index < MAX_NAMESPACES);
    for (_, pids) in beyond {
        let error = io::Error::other("there are too many network namespaces");
        inventory.unlisted.push(unlisted(request, &pids, &error));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (_, pids) in visited {
                let listed = enter(&request.proc, &pids).and_then(|entered| match entered {
                    true => list(inventory),
                    false => Ok(()),
                });
                if let Err(error) = listed {
                    inventory.unlisted.push(unlisted(request, &pids, &error));
                }
            }
        });
    });
}

/// Looks for them. Processes that vanish meanwhile are passed over; who may not be looked at may be in
/// any, and goes into `hidden`.
pub(super) fn find(request: &Request, hidden: &mut Inventory) -> Found {
    let proc = &request.proc;
    let mut found = Found::new();
    for pid in super::owners::pids(proc) {
        let namespace = match fs::metadata(proc.join(format!("{pid}/ns/net"))) {
            Ok(namespace) => namespace,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                hidden.unlisted.push(unlisted(request, &[pid], &error));
                continue;
            }
            Err(_gone) => continue,
        };
        let pids = found.entry((namespace.dev(), namespace.ino())).or_default();
        if pids.len() < WITNESSES {
            pids.push(pid);
        }
    }
    found
}

/// Enters the namespace of the first of these processes that is still there; false if none is,
/// and the namespace with them.
fn enter(proc: &Path, pids: &[u32]) -> io::Result<bool> {
    for pid in pids {
        match File::open(proc.join(format!("{pid}/ns/net"))) {
            Ok(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn unlisted(request: &Request, pids: &[u32], error: &io::Error) -> Unlisted {
    let cgroup_id = pids.iter().find_map(|pid| cgroup_id(request, *pid));
    Unlisted {
        cgroup_id: cgroup_id.unwrap_or(0),
        reason: error.to_string(),
    }
}

fn cgroup_id(request: &Request, pid: u32) -> Option<u64> {
    let text = fs::read_to_string(request.proc.join(format!("{pid}/cgroup"))).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(fs::metadata(request.cgroup_mount.join(path)).ok()?.ino())
}
