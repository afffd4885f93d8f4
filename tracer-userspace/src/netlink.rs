//! Asking the kernel for a list, by netlink(7).

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Of one answer of the kernel's, which sends at most 32 KiB at once.
const ANSWER_BYTES: usize = 64 * 1024;

/// Asks for everything that `request` describes and hands each item to `take`. Blocks until the
/// kernel has told all.
///
/// # Errors
/// The kernel refuses, or answers what cannot be read.
pub fn dump<M>(protocol: isize, request: M, mut take: impl FnMut(M)) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&written(request), 0)?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    loop {
        answer.clear();
        socket.recv(&mut answer, 0)?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(item) => take(item),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => {
                    return Err(io::Error::other("the kernel's answer was cut"));
                }
                NetlinkPayload::Noop | _ => {}
            }
            rest = rest.get(aligned(message.header.length)..).unwrap_or(&[]);
        }
    }
}

/// Messages begin at multiples of four bytes (`NLMSG_ALIGN`), and none is shorter than its header.
fn aligned(length: u32) -> usize {
    (length as usize).next_multiple_of(4).max(16)
}

fn written<M: NetlinkSerializable>(request: M) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
