//! Byte offsets of the few kernel fields that no helper returns.
//!
//! BPF written in Rust has no CO-RE relocations, so userspace looks these up in the running
//! kernel's BTF and sets them as read-only globals before the programs are loaded.

use bytemuck::{Pod, Zeroable};

/// `None` is written as [`ABSENT`]: the program then leaves the field at zero.
pub const ABSENT: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Offsets {
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `cgroup.root`
    pub cgroup_root: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
    /// `cgroup_root.hierarchy_id`
    pub cgroup_root_hierarchy_id: u32,
}

/// What following processes needs besides. Apart, so that the address hooks, which run far more
/// often, load no more than they use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessOffsets {
    /// `task_struct.cgroups`, `css_set.dfl_cgrp`
    pub task_cgroups: u32,
    pub css_set_dfl_cgrp: u32,
    /// `task_struct.thread_pid`, `pid.level`, `pid.numbers`, `upid.nr`, and the size of `upid`
    pub task_thread_pid: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    pub upid_nr: u32,
    pub upid_size: u32,
    /// `task_struct.signal`, `signal_struct.live`
    pub task_signal: u32,
    pub signal_live: u32,
    /// `task_struct.mm`, `mm_struct.{arg_start, arg_end, exe_file}`
    pub task_mm: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub mm_exe_file: u32,
    /// `file.f_path`
    pub file_path: u32,
    /// `task_struct.fs`, `fs_struct.pwd`
    pub task_fs: u32,
    pub fs_pwd: u32,
    /// `path.{mnt, dentry}`
    pub path_mnt: u32,
    pub path_dentry: u32,
    /// `dentry.{d_parent, d_name}`, `qstr.name`
    pub dentry_parent: u32,
    pub dentry_name: u32,
    pub qstr_name: u32,
    /// `dentry.d_hash`, `hlist_bl_node.pprev`
    pub dentry_hash: u32,
    pub hash_pprev: u32,
    /// `vfsmount.mnt_root`
    pub vfsmount_root: u32,
    /// `mount.{mnt, mnt_parent, mnt_mountpoint}`
    pub mount_mnt: u32,
    pub mount_parent: u32,
    pub mount_mountpoint: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
}

/// What following connections needs besides.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SocketOffsets {
    /// `sock.__sk_common.{skc_cookie, skc_flags}`
    pub cookie: u32,
    pub flags: u32,
    /// `sock.sk_err`
    pub err: u32,
    /// `tcp_sock.{total_retrans, bytes_acked, bytes_received, bytes_sent, bytes_retrans, snd_una,
    /// write_seq}`
    pub total_retrans: u32,
    pub bytes_acked: u32,
    pub bytes_received: u32,
    pub bytes_sent: u32,
    pub bytes_retrans: u32,
    pub snd_una: u32,
    pub write_seq: u32,
    /// `sock.__sk_common.skc_family`
    pub family: u32,
    /// `vsock_sock.remote_addr.{svm_cid, svm_port}`
    pub vsock_cid: u32,
    pub vsock_port: u32,
    /// `sock.sk_userlocks`: in bits, of which it has four.
    pub user_locks: u32,
}

/// What Unix sockets need besides: read of those alone, so that other families pay nothing for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct UnixOffsets {
    /// `sock.sk_peer_pid`, `sock.sk_cgrp_data.cgroup`
    pub peer_pid: u32,
    pub cgroup: u32,
    /// `unix_sock.{peer, addr}`, `unix_sock.path.mnt`
    pub peer: u32,
    pub addr: u32,
    pub path_mnt: u32,
    /// `unix_address.{len, name}`
    pub address_len: u32,
    pub address_name: u32,
    /// `pid.tasks[PIDTYPE_TGID]`, `task_struct.pid_links[PIDTYPE_TGID]`
    pub pid_leader: u32,
    pub task_leader_link: u32,
    /// `task_struct.nsproxy`, `nsproxy.mnt_ns`
    pub task_nsproxy: u32,
    pub nsproxy_mnt_ns: u32,
    /// `mount.{mnt, mnt_ns}`
    pub mount_mnt: u32,
    pub mount_mnt_ns: u32,
    pub reserved: u32,
}

impl UnixOffsets {
    /// How many words it has.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();
}

impl SocketOffsets {
    /// How many words it has.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();
}

impl ProcessOffsets {
    /// How many words it has.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();
}

const _: () = assert!(size_of::<Offsets>() == 32);
const _: () = assert!(size_of::<ProcessOffsets>() == 112);
const _: () = assert!(size_of::<SocketOffsets>() == 56);
const _: () = assert!(size_of::<UnixOffsets>() == 56);
