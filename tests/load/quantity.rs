//! Exactly so many connections, exactly so many datagrams.

use std::{
    io::{Error, Read as _, Result, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use super::loopback;

/// `count` connections to `destinations` addresses in turn, by as many threads as asked for. Each
/// accepts its own, from a listener of its own, for every address of this machine.
pub(super) fn connects(count: u32, destinations: u32, threads: u32, rate: u32) -> Result<()> {
    let workers: Vec<_> = (0..threads.max(1))
        .map(|worker| {
            let share = count / threads + u32::from(worker < count % threads);
            thread::spawn(move || connect(share, destinations, Pace::new(rate)))
        })
        .collect();
    for worker in workers {
        let result = worker.join();
        result.map_err(|_panic| Error::other("a thread panicked"))??;
    }
    Ok(())
}

fn connect(count: u32, destinations: u32, mut pace: Pace) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    for n in 0..count {
        pace.step();
        let client = TcpStream::connect((loopback(0x20_0000 + n % destinations), port))?;
        let server = listener.accept()?;
        drop(client);
        drop(server);
    }
    Ok(())
}

/// `count` bytes over one connection and back, each in a packet of its own.
pub(super) fn packets(count: u32) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let mut byte = [0];
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    for _ in 0..count {
        client.write_all(&byte)?;
        server.read_exact(&mut byte)?;
        server.write_all(&byte)?;
        client.read_exact(&mut byte)?;
    }
    Ok(())
}

/// One datagram to each of `count` addresses, all of it `rounds` times.
pub(super) fn datagrams(count: u32, first: u32, rate: u32, rounds: u32) -> Result<()> {
    // Without a receiver every datagram would be answered by an ICMP error.
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = receiver.local_addr()?.port();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut pace = Pace::new(rate);
    for _ in 0..rounds {
        for n in 0..count {
            pace.step();
            socket.send_to(b"load", (loopback(first + n), port))?;
        }
    }
    Ok(())
}

/// Keeps a loop from going faster than so many steps a second; 0 is as fast as it goes.
struct Pace {
    rate: u64,
    steps: u64,
    start: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            steps: 0,
            start: Instant::now(),
        }
    }

    fn step(&mut self) {
        // A look at the clock every millisecond is often enough.
        if self.rate > 0 && self.steps.is_multiple_of((self.rate / 1000).max(1)) {
            let due = self.start + Duration::from_nanos(self.steps * 1_000_000_000 / self.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        self.steps += 1;
    }
}
