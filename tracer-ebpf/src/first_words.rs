//! Which of a connection's first bytes are of use: as few as tell a name.
//!
//! Nearly every client says all of it in one segment, and nothing is kept of the connection. Of
//! the others the socket's cookie is, until they have said it, in a map of bounded size.

use aya_ebpf::bindings::__sk_buff;
use tracer_common::wire::{FIRST_BYTES, PIECE_BYTES};

use crate::{maps::UNFINISHED, packet::load};

/// The longest hello that userspace reads.
const MAX_HELLO: u32 = 16 * 1024;
/// A record's header and a handshake message's (RFC 8446 sections 4 and 5.1).
const TLS_HEADERS: u32 = 9;
/// What further records around a hello in several may add.
const MORE_RECORDS: u32 = 1024;

/// How much of a request is read.
const REQUEST: u32 = PIECE_BYTES as u32;

/// How requests begin (RFC 9110 section 9), CONNECT aside.
const METHODS: [[u8; 4]; 7] = [
    *b"GET ", *b"POST", *b"PUT ", *b"HEAD", *b"PATC", *b"DELE", *b"OPTI",
];

/// How much of the `length` bytes at `payload`, which are at `offset` of what the client says, is
/// of use; 0 for nothing.
#[inline(always)]
pub(crate) fn of_use(
    skb: *mut __sk_buff,
    cookie: u64,
    offset: u32,
    (payload, length): (u32, u32),
) -> u32 {
    if offset >= FIRST_BYTES {
        return 0;
    }
    let known = if offset == 0 { 0 } else { unfinished(cookie) };
    if offset != 0 && known <= offset {
        return 0;
    }
    let end = match begins(skb, payload, length) {
        Begins::Hello(end) => offset + end,
        Begins::Request if offset == 0 => match tail(skb, payload, length) {
            Tail::Line => REQUEST,
            Tail::Head | Tail::Other => smaller(length, REQUEST),
        },
        Begins::Proxy if offset == 0 => FIRST_BYTES,
        // The head of a request ends here: what follows is its body.
        Begins::Request | Begins::Proxy | Begins::Other
            if known == REQUEST && matches!(tail(skb, payload, length), Tail::Head) =>
        {
            offset + length
        }
        Begins::Request | Begins::Proxy | Begins::Other => known,
    };
    if end > offset + length {
        if end != known {
            // Where there is no room the oldest goes: that costs a name.
            let _full = UNFINISHED.insert(cookie, u64::from(end), 0);
        }
    } else if known != 0 {
        let _gone = UNFINISHED.remove(cookie);
    }
    smaller(end.saturating_sub(offset), length)
}

#[inline(always)]
fn smaller(one: u32, other: u32) -> u32 {
    if one < other { one } else { other }
}

/// The offset up to which a connection is listened to; 0 if it is not.
#[inline(always)]
fn unfinished(cookie: u64) -> u32 {
    match UNFINISHED.get_ptr(cookie) {
        // SAFETY: the pointer is a map value.
        Some(end) => unsafe { *end as u32 },
        None => 0,
    }
}

/// How a part of a request ends.
enum Tail {
    /// With the empty line that ends its head.
    Head,
    /// With a line: there are more to come.
    Line,
    /// Midway, in the body most likely.
    Other,
}

#[inline(always)]
fn tail(skb: *mut __sk_buff, payload: u32, length: u32) -> Tail {
    const LINE: u16 = u16::from_ne_bytes(*b"\r\n");
    const EMPTY_LINE: u32 = u32::from_ne_bytes(*b"\r\n\r\n");
    if length < 2 || load::<u16>(skb, payload + length - 2) != Some(LINE) {
        return Tail::Other;
    }
    let is_empty = length == 2;
    if is_empty || length >= 4 && load::<u32>(skb, payload + length - 4) == Some(EMPTY_LINE) {
        return Tail::Head;
    }
    Tail::Line
}

enum Begins {
    /// A TLS hello that ends about there.
    Hello(u32),
    /// An HTTP/1 request.
    Request,
    /// What asks a proxy to go on: CONNECT, SOCKS. The rest comes later.
    Proxy,
    Other,
}

#[inline(always)]
fn begins(skb: *mut __sk_buff, payload: u32, length: u32) -> Begins {
    let Some(first) = load::<[u8; 3]>(skb, payload) else {
        return Begins::Other;
    };
    match first {
        [22, 3, _] => hello(skb, payload),
        // As many methods as follow, and nothing else.
        [5, methods, _] if u32::from(methods) + 2 == length => Begins::Proxy,
        [4, 1 | 2, _] if length > 8 => Begins::Proxy,
        [b'A'..=b'Z', _, _] => request(skb, payload),
        _ => Begins::Other,
    }
}

#[inline(always)]
fn hello(skb: *mut __sk_buff, payload: u32) -> Begins {
    const CLIENT_HELLO: u32 = 1;
    // The record's length, and the message's type and length.
    let Some(head) = load::<[u8; 6]>(skb, payload + 3) else {
        return Begins::Other;
    };
    let record = u32::from(head[0]) << 8 | u32::from(head[1]);
    let kind = u32::from(head[2]);
    let message = u32::from(head[3]) << 16 | u32::from(head[4]) << 8 | u32::from(head[5]);
    if kind != CLIENT_HELLO || message > MAX_HELLO {
        return Begins::Other;
    }
    let more = if record < message + 4 {
        MORE_RECORDS
    } else {
        0
    };
    Begins::Hello(TLS_HEADERS + message + more)
}

#[inline(always)]
fn request(skb: *mut __sk_buff, payload: u32) -> Begins {
    let Some(word) = load::<u32>(skb, payload) else {
        return Begins::Other;
    };
    if word == u32::from_ne_bytes(*b"CONN") {
        return Begins::Proxy;
    }
    let mut is_request = false;
    for method in METHODS {
        is_request |= word == u32::from_ne_bytes(method);
    }
    if is_request {
        Begins::Request
    } else {
        Begins::Other
    }
}
