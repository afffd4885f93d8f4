//! News to userspace. Losing an event costs detail, never a flow.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
};
use tracer_common::{
    event::{Header, NewFlow, kind},
    flow::{FlowKey, FlowValue},
    limits::{WAKE_INTERVAL_NS, loss},
};

use crate::maps::{EVENTS, STATE, count_loss};

/// Tells that `key` is new in the flow table.
#[inline(always)]
pub(crate) fn new_flow(key: &FlowKey, value: &FlowValue) {
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
    slot.submit(wake_flag());
}

/// Waking the reader costs the workload more than all the rest of this object, so it happens at
/// most once in [`WAKE_INTERVAL_NS`]; a reader that was woken keeps looking for that long.
#[inline(always)]
fn wake_flag() -> u64 {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return u64::from(BPF_RB_FORCE_WAKEUP);
    };
    // SAFETY: the pointer is a map value. Two CPUs may race here: then both wake, or one that
    // would have waked a moment later does not, while the other just did.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub((*state).last_wake_ns) < WAKE_INTERVAL_NS {
            return u64::from(BPF_RB_NO_WAKEUP);
        }
        (*state).last_wake_ns = now;
    }
    u64::from(BPF_RB_FORCE_WAKEUP)
}
