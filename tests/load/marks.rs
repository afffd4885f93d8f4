//! What it costs to say that a tool begins and ends.

use std::{
    io::Result,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Instant,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
};

/// As for connections: a figure is the first quartile of so many chunks.
const CHUNKS: usize = 200;
const PAIRS_A_CHUNK: usize = 50;
const PAIRS_TO_WARM_UP: usize = 500;

/// Prints the nanoseconds of a begin and an end, each with its reply.
pub(super) fn measure(path: &str) -> Result<()> {
    let kind = SockType::SeqPacket;
    let daemon = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    connect(daemon.as_raw_fd(), &UnixAddr::new(path)?)?;
    pairs(&daemon, PAIRS_TO_WARM_UP)?;
    let mut chunks = Vec::with_capacity(CHUNKS);
    for _ in 0..CHUNKS {
        let began = Instant::now();
        pairs(&daemon, PAIRS_A_CHUNK)?;
        chunks.push(began.elapsed().as_nanos() as f64 / PAIRS_A_CHUNK as f64);
    }
    chunks.sort_by(f64::total_cmp);
    println!("marks {}", chunks[CHUNKS / 4]);
    Ok(())
}

fn pairs(daemon: &OwnedFd, count: usize) -> Result<()> {
    for _ in 0..count {
        say(
            daemon,
            br#"{"op":"begin","tool":"OpenAIChat","call":"c-1"}"#,
        )?;
        say(daemon, br#"{"op":"end","call":"c-1"}"#)?;
    }
    Ok(())
}

fn say(daemon: &OwnedFd, message: &[u8]) -> Result<()> {
    let mut reply = [0; 256];
    send(daemon.as_raw_fd(), message, MsgFlags::empty())?;
    let length = recv(daemon.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    match reply.get(..length) {
        Some(b"{\"ok\":true}") => Ok(()),
        other => Err(super::usage(&format!("the daemon says {other:?}"))),
    }
}
