//! Which process holds a socket, out of `/proc/<pid>/fd`.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

/// Open files that are looked at before the rest of the sockets go without an owner.
const MAX_FILES: usize = 2_000_000;

/// Nanoseconds in a tick of `/proc/<pid>/stat`, which counts in USER_HZ.
const TICK_NS: u64 = 10_000_000;

/// A process that holds a socket; all zero: none is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Nanoseconds since boot, to the tick.
    pub(super) start: u64,
    pub(super) parent_pid: u32,
    pub(super) comm: [u8; 16],
}

/// The process that holds each of these sockets, by inode, and whether all files were looked at.
/// Of several that share a socket it is the one with the lowest pid, as a rule the one that made
/// it.
pub(super) fn find(proc: &Path, mut wanted: HashSet<u32>) -> (HashMap<u32, Owner>, bool) {
    let mut owners = HashMap::new();
    // No process has it any more.
    wanted.remove(&0);
    let mut files = 0;
    for pid in pids(proc) {
        if wanted.is_empty() {
            break;
        }
        let directory = proc.join(pid.to_string());
        let Ok(descriptors) = fs::read_dir(directory.join("fd")) else {
            continue;
        };
        let mut owner = None;
        for descriptor in descriptors.flatten() {
            files += 1;
            if files > MAX_FILES {
                return (owners, false);
            }
            let inode = fs::read_link(descriptor.path())
                .ok()
                .and_then(|target| socket_inode(target.to_str()?));
            if let Some(inode) = inode.filter(|inode| wanted.remove(inode)) {
                let owner = *owner.get_or_insert_with(|| describe(&directory, pid));
                owners.insert(inode, owner);
            }
        }
    }
    (owners, true)
}

/// Every process id, in order.
pub(super) fn pids(proc: &Path) -> Vec<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// `socket:[12345]`, as a descriptor's link says.
fn socket_inode(target: &str) -> Option<u32> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn describe(directory: &Path, pid: u32) -> Owner {
    let stat = fs::read(directory.join("stat")).unwrap_or_default();
    let (name, parent_pid, ticks) = read_stat(&stat).unwrap_or_default();
    let mut comm = [0; 16];
    comm.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    Owner {
        pid,
        start: ticks * TICK_NS,
        parent_pid,
        comm,
    }
}

/// Name, parent and start of proc_pid_stat(5). The name may hold blanks and parentheses.
fn read_stat(stat: &[u8]) -> Option<(&[u8], u32, u64)> {
    let opens = stat.iter().position(|byte| *byte == b'(')?;
    let closes = stat.iter().rposition(|byte| *byte == b')')?;
    let name = stat.get(opens + 1..closes)?;
    let rest = std::str::from_utf8(&stat[closes + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let ticks = fields.nth(17)?.parse().ok()?;
    Some((name, parent, ticks))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::{os::fd::AsRawFd as _, process};

    use super::*;

    #[test]
    fn finds_the_holder_of_a_socket() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let target = fs::read_link(link).unwrap();
        let inode = socket_inode(target.to_str().unwrap()).unwrap();
        let (owners, complete) = find(Path::new("/proc"), HashSet::from([inode, 0]));
        let owner = owners[&inode];
        assert_eq!(owner.pid, process::id());
        assert!(owner.start > 0 && owner.parent_pid > 0 && complete);
    }

    #[test]
    fn a_name_cannot_pass_for_other_fields() {
        let stat = b"7 (a) S 1 (b) R 42 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 1234 0";
        assert_eq!(read_stat(stat), Some((&b"a) S 1 (b"[..], 42, 1234)));
        assert_eq!(read_stat(b"7 (a"), None);
    }

    #[test]
    fn only_sockets_have_a_sockets_inode() {
        assert_eq!(socket_inode("socket:[77]"), Some(77));
        for other in ["pipe:[77]", "/tmp/socket:[77]", "socket:[x]", "socket:[77"] {
            assert_eq!(socket_inode(other), None);
        }
    }
}
