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

const _: () = assert!(size_of::<Offsets>() == 32);
