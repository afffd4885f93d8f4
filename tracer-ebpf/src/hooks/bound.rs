//! UDP sockets that were bound before the tracer came.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::bindings::bpf_sock;
use tracer_common::{limits::loss, offsets::SocketOffsets, socket::Bound};

use crate::{
    maps::{BOUND, count_loss, socket_offset, store},
    process::field,
};

/// `SOCK_BINDADDR_LOCK` and `SOCK_BINDPORT_LOCK` (sock.h): the owner has chosen address or port.
const BOUND_BY_OWNER: u8 = 4 | 8;

/// `struct bpf_iter__udp`, as far as it is read.
#[repr(C)]
pub(crate) struct Visit {
    meta: *const c_void,
    sk: *mut bpf_sock,
}

/// Iterator `udp`, Linux 5.9 (socket storage 5.11): each UDP socket of a network namespace. Userspace
/// has it run in each, once, before it says that it is ready.
///
/// Marks those that their owner has bound, as `post_bind4` does from then on. Costs a microsecond a
/// socket, once. Does not see sockets that are bound to whatever address and port are free, and takes
/// an answer that is on its way at this moment for a peer that speaks first.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub(crate) extern "C" fn bound_before(visit: *mut Visit) -> i32 {
    // SAFETY: the context is valid while the program runs; at the end there is no socket.
    let sk = unsafe { (&raw const (*visit).sk).read_volatile() };
    if sk.is_null() {
        return 0;
    }
    let place = socket_offset(offset_of!(SocketOffsets, user_locks));
    let byte: u8 = field(sk as u64, place / 8);
    if byte >> (place % 8) & BOUND_BY_OWNER != 0 && !store(&BOUND, sk, &mut Bound::default()) {
        count_loss(loss::SOCKET_STORAGE, 1);
    }
    0
}
