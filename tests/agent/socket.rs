//! Sockets that std does not offer: one datagram socket used in every way, and a TCP socket that
//! does not wait.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrStorage, connect,
        sendmmsg, sendmsg, socket,
    },
};

use crate::{first, number, unknown, wait};

const TEXT: &[u8] = b"hello";

/// Does all of `operations` on one UDP socket of the family 4 or 6.
pub(crate) fn follow(family: &str, mut operations: &[&str]) -> Result<String> {
    let socket = UdpSocket::bind(if family == "4" { "0.0.0.0:0" } else { "[::]:0" })?;
    while !operations.is_empty() {
        operations = operation(&socket, operations)?;
    }
    Ok("done".to_owned())
}

/// Does the first of `operations` and returns the others.
fn operation<'a, 'b>(socket: &UdpSocket, operations: &'a [&'b str]) -> Result<&'a [&'b str]> {
    let rest = match operations {
        ["wait", rest @ ..] => {
            wait()?;
            rest
        }
        ["connect", at, rest @ ..] => {
            socket.connect(first(at)?)?;
            rest
        }
        ["send", n, rest @ ..] => {
            times(n, || socket.send(TEXT))?;
            rest
        }
        ["to", at, n, rest @ ..] => {
            let to = first(at)?;
            times(n, || socket.send_to(TEXT, to))?;
            rest
        }
        ["msg", at, n, rest @ ..] => {
            let to = first(at)?.into();
            times(n, || send_message(socket, &to))?;
            rest
        }
        ["mmsg", at, n, rest @ ..] => {
            send_messages(socket, first(at)?, number(n)?)?;
            rest
        }
        _ => return Err(unknown(operations)),
    };
    Ok(rest)
}

/// Sends `n` times, all of them or none.
fn times(n: &str, mut send: impl FnMut() -> Result<usize>) -> Result<()> {
    (0..number(n)?).try_for_each(|_| send().map(drop))
}

fn send_message(socket: &UdpSocket, to: &SockaddrStorage) -> Result<usize> {
    let text = [IoSlice::new(TEXT)];
    let flags = MsgFlags::empty();
    Ok(sendmsg(socket.as_raw_fd(), &text, &[], flags, Some(to))?)
}

/// `n` datagrams in one call.
fn send_messages(socket: &UdpSocket, to: SocketAddr, n: u64) -> Result<()> {
    let n = usize::try_from(n).map_err(Error::other)?;
    let text = [IoSlice::new(TEXT)];
    let texts = vec![text; n];
    let to: Vec<Option<SockaddrStorage>> = vec![Some(to.into()); n];
    let mut headers = MultiHeaders::preallocate(n, None);
    let flags = MsgFlags::empty();
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &texts, &to, [], flags)?.count();
    if sent == n {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::WriteZero, "sent fewer"))
    }
}

/// A TCP socket on its way to `to`.
pub(crate) fn connect_at_once(to: SocketAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
