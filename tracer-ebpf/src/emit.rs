//! News to userspace. Losing an event costs detail, never a flow.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    btf_maps::Array,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_ringbuf_output, bpf_ringbuf_query},
    },
};
use tracer_common::{
    event::{Header, NewFlow, kind},
    flow::{FlowKey, FlowValue},
    limits::{WAKE_INTERVAL_NS, loss},
};

use crate::maps::{
    EVENTS, PROCESS_WAKE, PROCESSES, STATE, WIRE, WIRE_WAKE, count_loss, process_wake_bytes,
    wire_wake_bytes,
};

/// Tells that `key` is new in the flow table.
#[inline(always)]
pub(crate) fn new_flow(key: &FlowKey, value: &FlowValue) {
    if is_crowded() {
        count_loss(loss::RING_FULL, 1);
        return;
    }
    let Some(mut slot) = EVENTS.reserve(0) else {
        count_loss(loss::RING_FULL, 1);
        return;
    };
    let header = Header {
        kind: kind::NEW_FLOW,
        reserved: 0,
    };
    slot.write(NewFlow {
        header,
        key: *key,
        value: *value,
    });
    slot.submit(flow_wake_flag());
}

/// Tells that one more key is in the flow table, of a flow that was told before.
#[inline(always)]
pub(crate) fn key_again() {
    if is_crowded() {
        count_loss(loss::RING_FULL, 1);
        return;
    }
    let Some(mut slot) = EVENTS.reserve_bytes(size_of::<Header>(), 0) else {
        count_loss(loss::RING_FULL, 1);
        return;
    };
    let header = slot.as_mut_ptr().cast::<Header>();
    // SAFETY: the slot is as long as the header and aligned to 8 bytes.
    unsafe {
        *header = Header {
            kind: kind::KEY_AGAIN,
            reserved: 0,
        };
    }
    slot.submit(flow_wake_flag());
}

/// The last quarter of the ring is for cgroups that come and go: whoever floods it with flows must
/// not keep others' containers from being known.
#[inline(always)]
fn is_crowded() -> bool {
    let ring: *mut c_void = core::ptr::from_ref(&EVENTS).cast_mut().cast();
    // SAFETY: the map is a ring buffer.
    let (waiting, size) = unsafe {
        (
            bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)),
            bpf_ringbuf_query(ring, u64::from(BPF_RB_RING_SIZE)),
        )
    };
    waiting >= size - size / 4
}

/// Tells what a process did. Nobody waits for it: userspace looks here whenever a flow is new and
/// before each sweep, so that the reader is only woken when the ring fills.
#[inline(always)]
pub(crate) fn process<T: 'static>(event: T) {
    let Some(mut slot) = PROCESSES.reserve_untyped::<T>(0) else {
        count_loss(loss::PROCESS_RING_FULL, 1);
        return;
    };
    slot.write(event);
    slot.submit(process_wake_flag());
}

/// The same for an event of `length` bytes at `start`.
///
/// # Safety
/// As many bytes can be read there, and the verifier can see it.
#[inline(always)]
pub(crate) unsafe fn process_bytes(start: *mut c_void, length: u64) {
    let ring = core::ptr::from_ref(&PROCESSES).cast_mut().cast();
    // SAFETY: the map is a ring buffer; the rest is promised by the caller.
    let failed = unsafe { bpf_ringbuf_output(ring, start, length, process_wake_flag()) } != 0;
    if failed {
        count_loss(loss::PROCESS_RING_FULL, 1);
    }
}

#[inline(always)]
fn process_wake_flag() -> u64 {
    let ring = core::ptr::from_ref(&PROCESSES).cast_mut().cast();
    patient_wake_flag(ring, process_wake_bytes(), &PROCESS_WAKE)
}

/// What is said on the wire can wait as well.
#[inline(always)]
pub(crate) fn wire_wake_flag() -> u64 {
    let ring = core::ptr::from_ref(&WIRE).cast_mut().cast();
    patient_wake_flag(ring, wire_wake_bytes(), &WIRE_WAKE)
}

/// Wakes once so many bytes wait.
#[inline(always)]
fn patient_wake_flag(ring: *mut c_void, enough: u64, last_wake_ns: &Array<u64, 1>) -> u64 {
    // SAFETY: the map is a ring buffer.
    let waiting = unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) };
    if waiting < enough {
        return u64::from(BPF_RB_NO_WAKEUP);
    }
    wake_flag(last_wake_ns.get_ptr_mut(0))
}

#[inline(always)]
fn flow_wake_flag() -> u64 {
    // SAFETY: the pointer is a map value.
    wake_flag(
        STATE
            .get_ptr_mut(0)
            .map(|state| unsafe { &raw mut (*state).last_wake_ns }),
    )
}

/// Waking the reader costs the workload more than all the rest of this object, so it happens at
/// most once in [`WAKE_INTERVAL_NS`]; a reader that was woken keeps looking for that long.
#[inline(always)]
fn wake_flag(last_wake_ns: Option<*mut u64>) -> u64 {
    let Some(last) = last_wake_ns else {
        return u64::from(BPF_RB_FORCE_WAKEUP);
    };
    // SAFETY: the pointer is into a map value. Two CPUs may race here: then both wake, or one that
    // would have waked a moment later does not, while the other just did.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub(*last) < WAKE_INTERVAL_NS {
            return u64::from(BPF_RB_NO_WAKEUP);
        }
        *last = now;
    }
    u64::from(BPF_RB_FORCE_WAKEUP)
}
