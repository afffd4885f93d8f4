//! cgroups as they come and go, so that a container which is gone still has a name.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP, helpers::generated::bpf_probe_read_kernel_str,
    macros::raw_tracepoint, programs::RawTracePointContext,
};
use tracer_common::{
    event::{CGROUP_PATH_BYTES, CgroupChange, Header, kind},
    limits::loss,
};

use crate::{
    maps::{EVENTS, count_loss, offsets},
    process::field,
};

/// Raw tracepoint `cgroup_mkdir`, Linux 4.20 (the raw form 4.17): after a cgroup was made, 100 ms
/// or so before an engine starts a container's first process in it.
///
/// Fires once for every hierarchy; only v2 (hierarchy 0) is reported. Costs nothing but when
/// cgroups are made.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, kind::CGROUP_CREATED);
    0
}

/// Raw tracepoint `cgroup_rmdir`, Linux 4.20: when a cgroup is removed, its processes gone.
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, kind::CGROUP_REMOVED);
    0
}

/// Both tracepoints pass (struct cgroup *, const char *path).
#[inline(always)]
fn report(ctx: &RawTracePointContext, kind: u32) {
    let cgroup = ctx.arg::<*const c_void>(0) as u64;
    let path = ctx.arg::<*const c_void>(1);
    let offsets = offsets();
    let root: u64 = field(cgroup, offsets.cgroup_root);
    // Unknown offsets read as 0 here, and then every hierarchy is reported: userspace looks ids
    // up in the v2 mount and drops what is not there.
    if field::<u32>(root, offsets.cgroup_root_hierarchy_id) != 0 {
        return;
    }
    let node: u64 = field(cgroup, offsets.cgroup_kn);
    let cgroup_id = field(node, offsets.kernfs_node_id);
    send(kind, cgroup_id, path);
}

#[inline(always)]
fn send(kind: u32, cgroup_id: u64, path: *const c_void) {
    let Some(mut slot) = EVENTS.reserve_bytes(size_of::<CgroupChange>(), 0) else {
        count_loss(loss::RING_FULL, 1);
        return;
    };
    let change = slot.as_mut_ptr().cast::<CgroupChange>();
    // SAFETY: the slot is as long as the struct and aligned to 8 bytes; every field is written.
    unsafe {
        (*change).header = Header { kind, reserved: 0 };
        (*change).cgroup_id = cgroup_id;
        (*change).reserved = 0;
        (*change).path = [0; CGROUP_PATH_BYTES];
        let to = (&raw mut (*change).path).cast();
        let copied = bpf_probe_read_kernel_str(to, CGROUP_PATH_BYTES as u32, path);
        (*change).path_len = if copied > 0 { copied as u32 - 1 } else { 0 };
    }
    slot.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}
