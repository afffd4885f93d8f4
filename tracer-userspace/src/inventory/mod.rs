//! Connections that were open before recording began, asked of the kernel once.
//!
//! ```text
//! /proc/*/ns/net ─► namespaces ─► sockets (sock_diag) ─► owners (/proc/*/fd) ─► Inventory
//! ```

mod namespaces;
pub mod open;
mod owners;
pub mod servers;
mod sockets;

use std::{collections::HashMap, io, path::PathBuf};

use tracer_common::{
    context::origin,
    flow::{FlowKey, FlowValue, channel},
    outcome::Outcomes,
};

use self::{owners::Owner, sockets::Listed};
use crate::ebpf::{clock::ClockSample, sys};

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the kernel tells about processes.
    pub proc: PathBuf,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup_mount: PathBuf,
    /// Connections to list at most.
    pub max_sockets: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Inventory {
    pub sockets: Vec<OpenSocket>,
    pub unlisted: Vec<Unlisted>,
    /// Connections beyond what may be listed, by cgroup v2 id.
    pub turned_away: HashMap<u64, u64>,
    /// There were too many open files to find every owner.
    pub owners_unknown: bool,
}

impl Inventory {
    /// Nothing could be listed at all.
    #[must_use]
    pub fn unknown(error: &io::Error) -> Self {
        let unlisted = Unlisted {
            cgroup_id: 0,
            reason: error.to_string(),
        };
        Self {
            unlisted: vec![unlisted],
            ..Self::default()
        }
    }
}

/// One connection, as the kernel would have told it had the hooks been there: with the process
/// that holds it now, pid 0 if none could be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    pub key: FlowKey,
    pub value: FlowValue,
    /// The peer has answered once.
    pub is_established: bool,
}

/// A network namespace whose connections could not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// cgroup v2 id of one of the processes in it; 0 if that could not be read either.
    pub cgroup_id: u64,
    pub reason: String,
}

/// What is not seen where the kernel cannot list sockets.
pub const UNLISTED: &str = "connections that were open when recording began";

/// Whether this kernel can list sockets at all.
#[must_use]
pub fn is_supported() -> bool {
    sockets::is_supported()
}

/// Lists what is open now. Blocks for as long as the kernel takes: a few milliseconds for each
/// namespace, and one pass over all open files.
#[must_use]
pub fn take(request: &Request) -> Inventory {
    let clock = ClockSample::now();
    let mut inventory = Inventory::default();
    let mut listed = Vec::new();
    let found = namespaces::find(request, &mut inventory);
    namespaces::visit(request, found, &mut inventory, |inventory| {
        // Without its cookie a namespace cannot be told from others; nor can its container then.
        let cookie = sys::own_netns_cookie().unwrap_or(0);
        let room = request.max_sockets - listed.len();
        let found = sockets::list(room, &mut inventory.turned_away)?;
        listed.extend(found.into_iter().map(|socket| (cookie, socket)));
        Ok(())
    });
    let inodes = listed.iter().map(|(_, socket)| socket.inode).collect();
    let (owners, complete) = owners::find(&request.proc, inodes);
    inventory.owners_unknown = !complete;
    inventory.sockets = listed
        .iter()
        .map(|(cookie, socket)| open_socket(*cookie, socket, &owners, clock.monotonic_ns()))
        .collect();
    inventory
}

fn open_socket(
    netns_cookie: u64,
    socket: &Listed,
    owners: &HashMap<u32, Owner>,
    now: u64,
) -> OpenSocket {
    let owner = owners.get(&socket.inode).copied().unwrap_or_default();
    let channel = match socket.peer_was_first {
        true => channel::PREEXISTING_REPLY,
        false => channel::PREEXISTING,
    };
    let key = FlowKey {
        cgroup_id: socket.cgroup_id,
        netns_cookie,
        process_start: owner.start,
        pid: owner.pid,
        port: socket.port,
        protocol: u16::from(socket.protocol),
        address: socket.address,
        channel,
        origin: origin::NONE,
        reserved: [0; 2],
        context: 0,
    };
    let value = FlowValue {
        count: 1,
        connects: 0,
        first_ns: now,
        last_ns: now,
        socket_cookie: socket.cookie,
        tid: owner.pid,
        uid: socket.uid,
        parent_pid: owner.parent_pid,
        translated: 0,
        comm: owner.comm,
        blocked: 0,
        source: socket.source,
        source_port: socket.source_port,
        reserved: [0; 2],
        interface: 0,
        outcomes: Outcomes::default(),
    };
    OpenSocket {
        key,
        value,
        is_established: socket.is_established,
    }
}
