//! Who is calling, and which process a task is: read from the kernel's own structures.

use core::{
    ffi::c_void,
    mem::{offset_of, zeroed},
};

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
    generated::{bpf_get_current_task_btf, bpf_probe_read_kernel},
};
use tracer_common::{
    offsets::{ABSENT, Offsets, ProcessOffsets},
    process::{Identity, Kin},
};

use crate::maps::{offset, offsets};

/// What is told about the first caller of a flow.
pub(crate) struct Caller {
    pub(crate) tid: u32,
    pub(crate) uid: u32,
    pub(crate) parent_pid: u32,
    pub(crate) comm: [u8; 16],
}

impl Caller {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Self {
            tid: bpf_get_current_pid_tgid() as u32,
            uid: bpf_get_current_uid_gid() as u32,
            parent_pid: parent_pid(),
            comm: bpf_get_current_comm().unwrap_or_default(),
        }
    }
}

/// Process id (thread group id) of the running task.
#[inline(always)]
pub(crate) fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// When the running process began, in nanoseconds since boot; 0 where that cannot be read.
///
/// With the pid it names a process for good: pids come round again.
#[inline(always)]
pub(crate) fn start() -> u64 {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task_btf() }.cast::<c_void>();
    let leader: *const c_void = member(task, offset(offset_of!(Offsets, task_group_leader)));
    member(leader, offset(offset_of!(Offsets, task_start_boottime)))
}

#[inline(always)]
fn parent_pid() -> u32 {
    let offsets = offsets();
    let leader: u64 = field(current_task(), offsets.task_group_leader);
    let parent: u64 = field(leader, offsets.task_real_parent);
    field(parent, offsets.task_tgid)
}

/// The process that `task` is a thread of.
#[inline(always)]
pub(crate) fn identity(task: u64, offsets: &Offsets, more: &ProcessOffsets) -> Identity {
    let leader: u64 = field(task, offsets.task_group_leader);
    Identity {
        start: field(leader, offsets.task_start_boottime),
        pid: field(leader, offsets.task_tgid),
        ns_pid: ns_pid(leader, more),
    }
}

/// Its pid where it lives: `numbers[level]` is the innermost namespace's.
#[inline(always)]
fn ns_pid(leader: u64, more: &ProcessOffsets) -> u32 {
    let pid: u64 = field(leader, more.task_thread_pid);
    let level: u32 = field(pid, more.pid_level);
    let number = level
        .wrapping_mul(more.upid_size)
        .wrapping_add(more.pid_numbers)
        .wrapping_add(more.upid_nr);
    field(pid, number)
}

/// The process that `task` is a thread of, its parent, and where both are.
#[inline(always)]
pub(crate) fn kin(task: u64, offsets: &Offsets, more: &ProcessOffsets) -> Kin {
    let leader: u64 = field(task, offsets.task_group_leader);
    let parent: u64 = field(leader, offsets.task_real_parent);
    Kin {
        process: identity(leader, offsets, more),
        parent: identity(parent, offsets, more),
        cgroup_id: cgroup_id(leader, offsets, more),
        parent_cgroup_id: cgroup_id(parent, offsets, more),
    }
}

/// The cgroup v2 id of a task.
#[inline(always)]
pub(crate) fn cgroup_id(task: u64, offsets: &Offsets, more: &ProcessOffsets) -> u64 {
    let set: u64 = field(task, more.task_cgroups);
    let cgroup: u64 = field(set, more.css_set_dfl_cgrp);
    let node: u64 = field(cgroup, offsets.cgroup_kn);
    field(node, offsets.kernfs_node_id)
}

#[inline(always)]
pub(crate) fn current_task() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() }
}

/// The `T` at `offset` of a kernel structure whose type the verifier knows; zero when the offset is
/// unknown. A plain load: a bad address reads as zero.
#[inline(always)]
pub(crate) fn member<T: Copy>(base: *const c_void, offset: u32) -> T {
    if offset == ABSENT {
        // SAFETY: of numbers and pointers alone.
        return unsafe { zeroed() };
    }
    // SAFETY: the verifier checks type and width, and the kernel catches the fault.
    unsafe { base.byte_add(offset as usize).cast::<T>().read_volatile() }
}

/// The `T` at `offset` of the kernel structure at `base`; zero when either is unknown.
#[inline(always)]
pub(crate) fn field<T: Default + Copy>(base: u64, offset: u32) -> T {
    let mut value = T::default();
    if offset != ABSENT {
        // SAFETY: the helper checks the address and writes zeros instead of faulting, also for a
        // null base: no branch is needed, and the verifier has the fewer paths to walk.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<T>() as u32,
                base.wrapping_add(u64::from(offset)) as *const c_void,
            );
        }
    }
    value
}
