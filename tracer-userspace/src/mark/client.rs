//! The other side of the socket, for `egress-tracer mark`.

use std::{
    env, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt,
        socket, sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};

use super::{SOCKET, VARIABLE};
use crate::decode::marker::MESSAGE;

/// Seconds after which a daemon that does not answer is taken for none.
const PATIENCE: i64 = 5;

/// Where the daemon listens.
#[must_use]
pub fn place() -> PathBuf {
    env::var_os(VARIABLE).map_or_else(|| SOCKET.into(), PathBuf::from)
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
}

impl Client {
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let patience = TimeVal::seconds(PATIENCE);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { socket })
    }

    /// Says one thing and waits until it is so.
    ///
    /// # Errors
    /// The daemon is gone, or refuses.
    pub fn say(&self, message: &serde_json::Value) -> io::Result<()> {
        let text = message.to_string();
        send(
            self.socket.as_raw_fd(),
            text.as_bytes(),
            MsgFlags::MSG_NOSIGNAL,
        )?;
        let mut buffer = [0; MESSAGE];
        let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let reply = buffer.get(..length).unwrap_or_default();
        let reply: serde_json::Value = serde_json::from_slice(reply)?;
        match reply["ok"] == true {
            true => Ok(()),
            false => Err(io::Error::other(
                reply["error"].as_str().unwrap_or("refused").to_owned(),
            )),
        }
    }
}
