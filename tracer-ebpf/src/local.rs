//! Unix sockets: who listens at the other end, and what that end is called.

use core::arch::asm;

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, generated::bpf_probe_read_kernel};
use tracer_common::{
    offsets::UnixOffsets,
    socket::{UNIX_NAME_BYTES, UnixName},
};

use crate::{
    maps::{UNIX_NAME, UNIX_NAMES, offsets, process_offsets, unix_offsets},
    process::{self, field},
};

/// Who listens at the other end of a Unix socket.
pub(crate) struct Listener {
    /// cgroup v2 id; 0 if it is gone.
    pub(crate) cgroup_id: u64,
    /// Where the kernel keeps the name that it was bound to: one for each socket that listens.
    name: u64,
}

impl Listener {
    /// As the flow table has it.
    #[inline(always)]
    pub(crate) fn address(&self) -> [u8; 16] {
        let words = [self.cgroup_id.to_be(), self.name.to_be()];
        // SAFETY: both are 16 bytes of plain data.
        unsafe { core::mem::transmute(words) }
    }

    /// Keeps the name for userspace.
    #[inline(always)]
    pub(crate) fn remember(&self) {
        let Some(scratch) = UNIX_NAME.get_ptr_mut(0) else {
            return;
        };
        let offsets = unix_offsets();
        let length: u32 = field(self.name, offsets.address_len);
        // Without the family. Less than there is room for, in a way that the verifier can follow.
        let mut length = u64::from(length).wrapping_sub(2);
        // SAFETY: arithmetic on a register.
        unsafe { asm!("{0} &= {mask}", inout(reg) length, mask = const UNIX_NAME_BYTES - 1) };
        let from = self.name.wrapping_add(u64::from(offsets.address_name)) + 2;
        // SAFETY: the slot is this CPU's, with room for so many bytes; the helper checks the source.
        let name: &UnixName = unsafe {
            let to = (&raw mut (*scratch).name).cast();
            let failed = bpf_probe_read_kernel(to, length as u32, from as *const _) != 0;
            (*scratch).length = if failed { 0 } else { length };
            &*scratch
        };
        let _full: Result<(), i32> = UNIX_NAMES.insert(self.name, name, 0);
    }
}

/// The listener at the other end of `sk`, an AF_UNIX socket that is connected to a name, where that
/// is somebody in another cgroup than the caller.
///
/// Where the process that listened is gone, whoever it left the socket to may be anywhere: a path is
/// then taken for outside if it was bound in another mount namespace, an abstract name always.
#[inline(always)]
pub(crate) fn outside(sk: u64) -> Option<Listener> {
    let offsets = unix_offsets();
    let peer: u64 = field(sk, offsets.peer);
    let name: u64 = field(peer, offsets.addr);
    // The ends of socketpair(), and those who have called a server, have none.
    if name == 0 {
        return None;
    }
    let cgroup_id = listeners_cgroup(sk, peer, &offsets);
    let is_inside = match cgroup_id {
        0 => is_bound_here(peer, &offsets),
        // SAFETY: no arguments.
        known => known == unsafe { bpf_get_current_cgroup_id() },
    };
    (!is_inside).then_some(Listener { cgroup_id, name })
}

/// Of a stream the process that called listen(). A datagram socket's peer is the bound socket
/// itself, which knows the cgroup that made it.
#[inline(always)]
fn listeners_cgroup(sk: u64, peer: u64, unix: &UnixOffsets) -> u64 {
    let offsets = offsets();
    let pid: u64 = field(sk, unix.peer_pid);
    if pid == 0 {
        let cgroup: u64 = field(peer, unix.cgroup);
        let node: u64 = field(cgroup, offsets.cgroup_kn);
        return field(node, offsets.kernfs_node_id);
    }
    let link: u64 = field(pid, unix.pid_leader);
    if link == 0 {
        return 0;
    }
    let leader = link.wrapping_sub(u64::from(unix.task_leader_link));
    process::cgroup_id(leader, &offsets, &process_offsets())
}

/// Whether a path was bound in the caller's mount namespace.
#[inline(always)]
fn is_bound_here(peer: u64, unix: &UnixOffsets) -> bool {
    let mounted: u64 = field(peer, unix.path_mnt);
    let mount = mounted.wrapping_sub(u64::from(unix.mount_mnt));
    let there: u64 = field(mount, unix.mount_mnt_ns);
    let proxy: u64 = field(process::current_task(), unix.task_nsproxy);
    let here: u64 = field(proxy, unix.nsproxy_mnt_ns);
    mounted != 0 && there == here
}
