//! What is said to nf_tables, byte by byte: elements in and out of a set, and which table is there.
//!
//! Messages are those of linux/netfilter/nf_tables.h: a header of netlink's (RFC 3549), four bytes of
//! netfilter's, attributes. No crate writes set elements with a time to live under a licence that
//! suits, and starting `nft` takes longer than an answer may be held.

use std::{net::IpAddr, time::Duration};

/// `nfnetlink.h`
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `nf_tables.h`
const GET_TABLE: u16 = 1;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// The address family `inet`.
const INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_HANDLE: u16 = 4;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const DATA_VALUE: u16 = 1;
const NESTED: u16 = 0x8000;
/// `netlink.h`
const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const HEADER: usize = 16;
const NETFILTER_HEADER: usize = 4;

/// One change of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Add {
        set: &'a str,
        address: IpAddr,
        life: Duration,
    },
    Remove {
        set: &'a str,
        address: IpAddr,
    },
}

/// What the kernel says to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Of the message that it is about.
    pub(super) sequence: u32,
    /// An errno, or 0.
    pub(super) error: i32,
}

/// One transaction; its changes are numbered from `sequence` + 1 on, and each is replied to.
pub(super) fn batch(table: &str, changes: &[Change<'_>], sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, BATCH_BEGIN, REQUEST, sequence, |out| {
        netfilter_header(out, 0, SUBSYSTEM);
    });
    let mut number = sequence;
    for change in changes {
        number = number.wrapping_add(1);
        element(&mut out, table, change, number);
    }
    let end = number.wrapping_add(1);
    message(&mut out, BATCH_END, REQUEST, end, |out| {
        netfilter_header(out, 0, SUBSYSTEM);
    });
    out
}

/// Asks for a table.
pub(super) fn get_table(table: &str, sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = SUBSYSTEM << 8 | GET_TABLE;
    message(&mut out, kind, REQUEST, sequence, |out| {
        netfilter_header(out, INET, 0);
        attribute(out, TABLE_NAME, |out| text(out, table));
    });
    out
}

/// The replies in what the kernel sent; what is no reply is left out.
pub(super) fn replies(bytes: &[u8]) -> Vec<Reply> {
    let errors = messages(bytes).filter(|(kind, ..)| *kind == ERROR);
    let reply = |(_, sequence, body): (u16, u32, &[u8])| {
        let error = i32::from_ne_bytes(*body.first_chunk()?);
        // The kernel's are negative.
        let error = error.checked_neg()?;
        Some(Reply { sequence, error })
    };
    errors.filter_map(reply).collect()
}

/// The handle of the table that was asked for: another one once it was made anew.
pub(super) fn handle(bytes: &[u8]) -> Option<u64> {
    let (_, _, body) = messages(bytes).find(|(kind, ..)| *kind >> 8 == SUBSYSTEM)?;
    let mut rest = body.get(NETFILTER_HEADER..)?;
    while let Some([low, high, kind, kind_high]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([*kind, *kind_high]) & !NESTED == TABLE_HANDLE {
            return Some(u64::from_be_bytes(*value.first_chunk()?));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Kind, sequence number and body of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes(*header.first_chunk()?) as usize;
        let body = bytes.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

fn element(out: &mut Vec<u8>, table: &str, change: &Change<'_>, sequence: u32) {
    let (kind, flags, set, address, life) = match *change {
        Change::Add { set, address, life } => (NEW_ELEMENT, CREATE, set, address, Some(life)),
        Change::Remove { set, address } => (DELETE_ELEMENT, 0, set, address, None),
    };
    let kind = SUBSYSTEM << 8 | kind;
    message(out, kind, REQUEST | ACK | flags, sequence, |out| {
        netfilter_header(out, INET, 0);
        attribute(out, LIST_TABLE, |out| text(out, table));
        attribute(out, LIST_SET, |out| text(out, set));
        attribute(out, NESTED | LIST_ELEMENTS, |out| {
            attribute(out, NESTED | LIST_ELEMENT, |out| {
                attribute(out, NESTED | ELEMENT_KEY, |out| {
                    attribute(out, DATA_VALUE, |out| address_bytes(out, address));
                });
                if let Some(life) = life {
                    let milliseconds = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
                    attribute(out, ELEMENT_TIMEOUT, |out| {
                        out.extend(milliseconds.to_be_bytes());
                    });
                }
            });
        });
    });
}

fn address_bytes(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}

fn message(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    // The kernel knows the sender by its socket.
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    pad(out);
}

fn netfilter_header(out: &mut Vec<u8>, family: u8, resource: u16) {
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 2]);
    out.extend(kind.to_ne_bytes());
    value(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    pad(out);
}

/// Messages and attributes begin at multiples of four.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say_and_aligned() {
        let changes = [
            Change::Add {
                set: "names4_tcp_443_a_example_01234567",
                address: IpAddr::from([203, 0, 113, 1]),
                life: Duration::from_secs(60),
            },
            Change::Remove {
                set: "s",
                address: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            },
        ];
        let bytes = batch("egress_tracer", &changes, 7);
        let read: Vec<(u16, u32)> = messages(&bytes)
            .map(|(kind, sequence, _)| (kind, sequence))
            .collect();
        let add = SUBSYSTEM << 8 | NEW_ELEMENT;
        let remove = SUBSYSTEM << 8 | DELETE_ELEMENT;
        assert_eq!(
            read,
            [(BATCH_BEGIN, 7), (add, 8), (remove, 9), (BATCH_END, 10)]
        );
    }

    #[test]
    fn what_the_kernel_would_never_send_is_no_reply() {
        for bytes in [
            &[][..],
            &[1; 15],
            &[255; 64],
            &[0; 64],
            &[16, 0, 0, 0, 2, 0, 0, 0],
        ] {
            assert_eq!(replies(bytes), []);
            assert_eq!(handle(bytes), None);
        }
    }
}
