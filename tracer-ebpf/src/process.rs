//! Who is calling: read from the running task.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
    bpf_probe_read_kernel,
};
use tracer_common::offsets::ABSENT;

use crate::maps::offsets;

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
    let offsets = offsets();
    let leader: u64 = field(current_task(), offsets.task_group_leader);
    field(leader, offsets.task_start_boottime)
}

#[inline(always)]
fn parent_pid() -> u32 {
    let offsets = offsets();
    let leader: u64 = field(current_task(), offsets.task_group_leader);
    let parent: u64 = field(leader, offsets.task_real_parent);
    field(parent, offsets.task_tgid)
}

#[inline(always)]
fn current_task() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() }
}

/// The `T` at `offset` of the kernel structure at `base`; zero when either is unknown.
#[inline(always)]
pub(crate) fn field<T: Default + Copy>(base: u64, offset: u32) -> T {
    if base == 0 || offset == ABSENT {
        return T::default();
    }
    // SAFETY: bpf_probe_read_kernel checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.unwrap_or_default()
}
