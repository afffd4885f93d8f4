//! Whether what leaves is what was asked for.
//!
//! Connecting and sending a datagram are one system call each: between the address hook, which
//! knows who asks for what, and the first packet, which shows what became of it, the call stays on
//! its CPU as a rule. So the hook leaves a note in a slot of that CPU, and only for a flow that is
//! new in the table or was rewritten before: a repeated flow costs nothing, a connection no
//! storage. A call that was moved to another CPU in between, or overtaken by another one, finds a
//! note with a foreign socket's cookie or none at all. That costs the detail, until the next sweep
//! makes the flow new again.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_socket_cookie},
};
use tracer_common::{
    flow::FlowKey,
    limits::loss,
    translation::{FirstAsked, Translation},
};

use crate::{
    flow::{EXISTS, Look, mark_translated, note_source},
    maps::{ASKED, FIRST_ASKED, FIRST_ATTACHED, TRANSLATIONS, count_loss},
    packet::{destination, destination_port, source, source_port},
};

/// IANA's numbers of TCP, UDP, DCCP, SCTP and UDP-Lite.
const WITH_PORTS: [u16; 5] = [6, 17, 33, 132, 136];

/// Leaves a note of what is asked for, where the packet that follows is worth a look.
#[inline(always)]
pub(crate) fn ask(key: &FlowKey, socket_cookie: u64, look: Look) {
    let translated = match look {
        Look::No => return,
        Look::New => 0,
        Look::Again => 1,
    };
    if let Some(slot) = ASKED.get_ptr_mut(0) {
        // SAFETY: the slot is this CPU's. Whoever interrupts in between leaves another cookie.
        unsafe {
            (*slot).socket_cookie = 0;
            (*slot).key = *key;
            (*slot).translated = translated;
            (*slot).socket_cookie = socket_cookie;
        }
    }
}

/// Compares a packet with the note about its socket, if this CPU has one, and takes the note away.
#[inline(always)]
pub(crate) fn compare_asked(skb: *mut __sk_buff) {
    let Some(slot) = ASKED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the slot is this CPU's, the context valid while the program runs.
    unsafe {
        if (*slot).socket_cookie == 0 || (*slot).socket_cookie != bpf_get_socket_cookie(skb.cast())
        {
            return;
        }
        compare(skb, &(*slot).key, (*slot).translated != 0);
        (*slot).socket_cookie = 0;
    }
}

/// Whether packets of this protocol have port numbers.
#[inline(always)]
pub(crate) fn has_ports(protocol: u16) -> bool {
    WITH_PORTS.contains(&protocol)
}

/// Compares a packet with what was asked for. A packet that was not rewritten is noted as well
/// where others of its flow `were`: then both leave.
#[inline(always)]
pub(crate) fn compare(skb: *mut __sk_buff, key: &FlowKey, were: bool) {
    let Some(address) = destination(skb) else {
        return;
    };
    let has_ports = has_ports(key.protocol);
    let port = if has_ports {
        destination_port(skb, key.protocol).unwrap_or(key.port)
    } else {
        key.port
    };
    let is_rewritten = address != key.address || port != key.port;
    if !is_rewritten {
        leave_source(skb, key, has_ports);
    }
    if is_rewritten && !were {
        mark_translated(key);
    }
    if is_rewritten || were {
        note(&Translation {
            key: *key,
            address,
            port,
            reserved: [0; 6],
        });
    }
}

/// What leaves as it was asked for may be rewritten by the host.
#[inline(always)]
fn leave_source(skb: *mut __sk_buff, key: &FlowKey, has_ports: bool) {
    let mut port = 0;
    if has_ports {
        let Some(found) = source_port(skb, key.protocol) else {
            return;
        };
        port = found;
    }
    if let Some(address) = source(skb) {
        // SAFETY: the context is valid while the program runs.
        note_source(key, address, port, unsafe { (*skb).ifindex });
    }
}

#[inline(always)]
fn note(translation: &Translation) {
    match TRANSLATIONS.insert(translation, 1, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(EXISTS) => {}
        Err(_full) => count_loss(loss::TRANSLATIONS_FULL, 1),
    }
}

/// Notes where a call wants to go, before other programs can rewrite that.
#[inline(always)]
pub(crate) fn ask_first(address: [u8; 16], port: u16, socket_cookie: u64) {
    if let Some(slot) = FIRST_ASKED.get_ptr_mut(0) {
        let asked = FirstAsked {
            caller: bpf_get_current_pid_tgid(),
            socket_cookie,
            address,
            port: u64::from(port),
        };
        // SAFETY: the slot is this CPU's. Who interrupts in between names another caller.
        unsafe { *slot = asked };
    }
}

/// Puts what was asked for in place of what other programs made of it, where that was noted.
#[inline(always)]
pub(crate) fn restore(key: &mut FlowKey, socket_cookie: u64) {
    // SAFETY: both maps' values are plain integers, and the slot is this CPU's.
    unsafe {
        match FIRST_ATTACHED.get_ptr(0) {
            Some(attached) if *attached != 0 => {}
            Some(_) | None => return,
        }
        let Some(slot) = FIRST_ASKED.get_ptr_mut(0) else {
            return;
        };
        if (*slot).caller == bpf_get_current_pid_tgid() && (*slot).socket_cookie == socket_cookie {
            key.address = (*slot).address;
            key.port = (*slot).port as u16;
            // Once: nobody may be going first by the time of this caller's next call.
            (*slot).caller = 0;
        }
    }
}
