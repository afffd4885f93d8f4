//! What it costs to say that a tool begins and ends.

use std::{
    io::Result,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::Instant,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket, socketpair,
};

/// As for connections: a figure is the first quartile of so many chunks.
const CHUNKS: usize = 200;
const PAIRS_A_CHUNK: usize = 50;
const PAIRS_TO_WARM_UP: usize = 500;
/// The daemon's reply when all is well.
const OK: &[u8] = b"{\"ok\":true}";

/// Prints the nanoseconds of a begin and an end, each with its reply; and what the same words cost by
/// turns with a thread that knows nothing and answers at once: what the machine takes to change from
/// one to the other, which no daemon can be below.
pub(super) fn measure(path: &str) -> Result<()> {
    let kind = SockType::SeqPacket;
    let daemon = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    connect(daemon.as_raw_fd(), &UnixAddr::new(path)?)?;
    let (echo, other) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    thread::spawn(move || answer(&other));
    let both = [&daemon, &echo];
    let mut chunks = [(); 2].map(|()| Vec::with_capacity(CHUNKS));
    for to in both {
        pairs(to, PAIRS_TO_WARM_UP)?;
    }
    for _ in 0..CHUNKS {
        for (to, chunks) in both.iter().zip(&mut chunks) {
            let began = Instant::now();
            pairs(to, PAIRS_A_CHUNK)?;
            chunks.push(began.elapsed().as_nanos() as f64 / PAIRS_A_CHUNK as f64);
        }
    }
    let [marks, echo] = chunks.map(|mut chunks| {
        chunks.sort_by(f64::total_cmp);
        chunks[CHUNKS / 4]
    });
    println!("marks {marks} echo {echo}");
    Ok(())
}

/// Says what the daemon says when all is well, until the other end is gone.
fn answer(socket: &OwnedFd) -> Result<()> {
    let mut message = [0; 256];
    while recv(socket.as_raw_fd(), &mut message, MsgFlags::empty())? > 0 {
        send(socket.as_raw_fd(), OK, MsgFlags::empty())?;
    }
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
        Some(OK) => Ok(()),
        other => Err(super::usage(&format!("the daemon says {other:?}"))),
    }
}
