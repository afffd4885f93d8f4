//! Where exporters are listened for: an address and a port, or a Unix socket.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::privilege::outside;

/// `127.0.0.1:4318`, `unix:/run/egress-tracer/otlp.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum BadPlace {
    #[error("expected an address and a port such as 127.0.0.1:4318, or unix:/path/of/a.sock")]
    Malformed,
    #[error("cannot listen for spans at {0}: {1}")]
    Refused(String, io::Error),
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(BadPlace::Malformed),
            None => text.parse().map(Self::Tcp).map_err(|_| BadPlace::Malformed),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(to),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A socket's file, which goes with its listener.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        let _gone = outside::within(move || fs::remove_file(path));
    }
}

impl Listener {
    pub(super) fn bind(place: &Place) -> Result<Self, BadPlace> {
        let bound = match place {
            Place::Tcp(address) => tcp(*address),
            Place::Unix(path) => unix(path),
        };
        bound.map_err(|error| BadPlace::Refused(place.to_string(), error))
    }

    pub(super) async fn accept(&self) -> io::Result<Pin<Box<dyn Stream>>> {
        Ok(match self {
            Self::Tcp(listener) => Box::pin(listener.accept().await?.0),
            Self::Unix { listener, .. } => Box::pin(listener.accept().await?.0),
        })
    }
}

fn tcp(address: SocketAddr) -> io::Result<Listener> {
    if !address.ip().is_loopback() {
        tracing::warn!("spans are believed: whoever reaches {address} can say which tool it was");
    }
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Listener::Tcp)
}

fn unix(path: &Path) -> io::Result<Listener> {
    let place = path.to_owned();
    let (listener, file) = outside::within(move || bind(&place))??;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix {
        listener: UnixListener::from_std(listener)?,
        _file: file,
    })
}

fn bind(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Left behind by one that was killed. Anything but a socket is somebody's file.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let told = "somebody else listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, told));
        }
        fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    // Agents are not root's.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok((listener, file))
}
