//! What becomes of stream connections.

use core::ffi::c_void;

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::connection::{CLOSE, ESTABLISHED, FIN_WAIT1, LAST_ACK, changed};

/// Raw tracepoint `inet_sock_set_state`, Linux 4.16 (the raw form 4.17): a TCP, MPTCP, SCTP or DCCP
/// socket changes its state; before the change is visible. In the caller or in a softirq.
///
/// Costs 10 to 20 ns a change that is looked at, of which a connection has two to four at each end,
/// and about 0.1 µs where a connection of ours is established or over. Does not see connect() fail
/// before a SYN was sent (no route, or denied): the state does not change.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let state = ctx.arg::<u64>(2) as u32;
    if matches!(state, ESTABLISHED | FIN_WAIT1 | CLOSE | LAST_ACK) {
        changed(ctx.arg::<*const c_void>(0) as u64, state);
    }
    0
}
