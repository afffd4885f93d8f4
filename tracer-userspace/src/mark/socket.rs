//! The socket: where it is, and what comes in.

use std::{
    fs,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
        UnixCredentials, accept4, bind, connect, listen, recvmsg, send, setsockopt, socket,
        sockopt::PassCred,
    },
};

use crate::decode::marker::MESSAGE;
use crate::privilege::outside;

/// A socket in the file system that others can connect to. Its file goes when it does.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
    /// Of the file, which somebody may have replaced since.
    inode: Option<u64>,
    /// Whether the directory was made for it alone.
    owns_directory: bool,
}

impl Listener {
    /// Makes it, and its directory. One that nobody answers at any more is replaced.
    ///
    /// # Errors
    /// Somebody answers there, or the place cannot be written to.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let owns_directory = !directory.exists();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
        remove_stale(path)?;
        let fd = make(SockFlag::SOCK_NONBLOCK)?;
        setsockopt(&fd, PassCred, &true)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        // Whoever reaches it may speak of itself.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        listen(&fd, Backlog::MAXCONN)?;
        let inode = fs::symlink_metadata(path).map(|file| file.ino());
        Ok(Self {
            fd,
            path: path.to_owned(),
            inode: inode.ok(),
            owns_directory,
        })
    }

    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The next connection; `None` if there is none.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        match accept4(self.fd.as_raw_fd(), flags) {
            Ok(fd) => {
                let fd = crate::ebpf::sys::owned(fd);
                setsockopt(&fd, PassCred, &true)?;
                Ok(Some(Connection { fd }))
            }
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (path, inode) = (std::mem::take(&mut self.path), self.inode);
        let owns_directory = self.owns_directory;
        let _gone = outside::within(move || remove(&path, inode, owns_directory));
    }
}

fn remove(path: &Path, inode: Option<u64>, owns_directory: bool) {
    if fs::symlink_metadata(path).is_ok_and(|file| Some(file.ino()) == inode) {
        let _gone = fs::remove_file(path);
    }
    if let Some(directory) = path.parent().filter(|_| owns_directory) {
        // Others may have put something there.
        let _not_empty = fs::remove_dir(directory);
    }
}

fn make(flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        flags,
        None,
    )?)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_other) => return Err(io::Error::other("something else is there")),
    }
    let probe = make(SockFlag::SOCK_NONBLOCK)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another daemon listens there",
        )),
    }
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From a process of that id, so many bytes; longer than what is read.
    Message {
        pid: u32,
        length: usize,
        is_cut: bool,
    },
    Nothing,
    End,
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
}

impl Connection {
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reads one message. Descriptors that come with it find no room and are closed by the kernel.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn receive(&self, buffer: &mut [u8; MESSAGE]) -> io::Result<Arrival> {
        let mut control = nix::cmsg_space!(UnixCredentials);
        let mut vectors = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.fd.as_raw_fd(), &mut vectors, Some(&mut control), flags);
        let received = match received {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Arrival::Nothing),
            Err(error) => return Err(error.into()),
        };
        let mut pid = None;
        // What came with descriptors is cut off, and said by nobody.
        for message in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmCredentials(credentials) = message {
                pid = u32::try_from(credentials.pid()).ok();
            }
        }
        match (received.bytes, pid) {
            // An end has no sender; an empty message has.
            (0, None | Some(0)) => Ok(Arrival::End),
            (length, pid) => Ok(Arrival::Message {
                pid: pid.unwrap_or(0),
                length,
                is_cut: received.flags.contains(MsgFlags::MSG_TRUNC),
            }),
        }
    }

    /// Whether the reply has found room.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn reply(&self, reply: &[u8]) -> io::Result<bool> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.fd.as_fd().as_raw_fd(), reply, flags) {
            Ok(_sent) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
