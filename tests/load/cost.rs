//! What one connection, one datagram and one process cost, on one core.

use std::{
    env,
    fs::{self, File},
    io::Result,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    time::Instant,
};

use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    unistd::Pid,
};

use super::{loopback, tls::Ends};

/// A figure is the first quartile of this many chunks, each shorter than a time slice: those
/// during which another process had the core, or its caches, do not move it.
const CHUNKS: usize = 200;
const CONNECTS_A_CHUNK: usize = 20;
const DATAGRAMS_A_CHUNK: usize = 200;
/// A process takes a time slice by itself.
const PROCESSES_A_CHUNK: usize = 1;
/// Calls before the first chunk: the first one adds the key and wakes the reader.
const WARM_UP: usize = 600;
const PROCESSES_TO_WARM_UP: usize = 50;
const HANDSHAKES_A_CHUNK: usize = 2;
const HANDSHAKES_TO_WARM_UP: usize = 50;

/// Who answers: nobody but the load itself.
struct Servers {
    tcp: TcpListener,
    /// Nobody reads from it: the warm-up fills it, and from then on every datagram is dropped there.
    udp: UdpSocket,
    /// Where datagrams come from.
    from: Ipv4Addr,
}

impl Servers {
    fn at(address: Ipv4Addr, from: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            tcp: TcpListener::bind((address, 0))?,
            udp: UdpSocket::bind((address, 0))?,
            from,
        })
    }
}

/// Prints one line for each kind of call, or for each that `chosen` names: its name and nanoseconds.
/// Each process goes to an address of its own, so that what earlier ones left in TIME_WAIT is not
/// in the way.
pub(super) fn measure(core: usize, salt: u32, chosen: &[&str]) -> Result<()> {
    pin(core)?;
    let servers = Servers::at(loopback(0x10_0000 + salt), Ipv4Addr::LOCALHOST)?;
    let calls: [(&str, &dyn Fn() -> Result<f64>); 5] = [
        ("tcp", &|| tcp(&servers)),
        ("sendto", &|| sendto(&servers)),
        ("send", &|| send(&servers)),
        ("tls", &|| tls(salt)),
        ("process", &process),
    ];
    for (name, call) in calls {
        if chosen.is_empty() || chosen.contains(&name) {
            println!("{name} {}", call()?);
        }
    }
    Ok(())
}

/// The same for what has a client and a server, with the servers here at `address`, and with the
/// client's sockets in the network namespace and the cgroup that are named: the listener's cgroup
/// is that of the connections that it accepts, too.
pub(super) fn across(core: usize, address: Ipv4Addr, network: &Path, cgroup: &Path) -> Result<()> {
    pin(core)?;
    let servers = Servers::at(address, Ipv4Addr::UNSPECIFIED)?;
    setns(File::open(network)?, CloneFlags::CLONE_NEWNET)?;
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    println!("tcp {}", tcp(&servers)?);
    println!("sendto {}", sendto(&servers)?);
    println!("send {}", send(&servers)?);
    Ok(())
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// connect(), accept() and both close(), the socket calls included.
fn tcp(servers: &Servers) -> Result<f64> {
    let at = servers.tcp.local_addr()?;
    quick_chunk(WARM_UP, CONNECTS_A_CHUNK, || {
        let client = TcpStream::connect(at)?;
        let server = servers.tcp.accept()?;
        drop(client);
        drop(server);
        Ok(())
    })
}

/// A connection of its own for each TLS handshake.
fn tls(salt: u32) -> Result<f64> {
    let ends = Ends::new()?;
    let listener = TcpListener::bind((loopback(0x20_0000 + salt), 0))?;
    quick_chunk(HANDSHAKES_TO_WARM_UP, HANDSHAKES_A_CHUNK, || {
        ends.connect(&listener)
    })
}

/// sendto() on an unconnected socket.
fn sendto(servers: &Servers) -> Result<f64> {
    let at: SocketAddr = servers.udp.local_addr()?;
    let socket = UdpSocket::bind((servers.from, 0))?;
    quick_chunk(WARM_UP, DATAGRAMS_A_CHUNK, || {
        socket.send_to(b"load", at).map(drop)
    })
}

/// send() on a connected socket.
fn send(servers: &Servers) -> Result<f64> {
    let socket = UdpSocket::bind((servers.from, 0))?;
    socket.connect(servers.udp.local_addr()?)?;
    quick_chunk(WARM_UP, DATAGRAMS_A_CHUNK, || {
        socket.send(b"load").map(drop)
    })
}

/// fork, exec, a connection that is refused, exit, wait.
fn process() -> Result<f64> {
    let myself = env::current_exe()?;
    quick_chunk(PROCESSES_TO_WARM_UP, PROCESSES_A_CHUNK, || {
        Command::new(&myself)
            .args(["once", "127.0.0.1:1"])
            .status()
            .map(drop)
    })
}

/// Nanoseconds of one call, from the chunk at the first quartile.
fn quick_chunk(warm_up: usize, calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..warm_up {
        call()?;
    }
    let mut times = Vec::with_capacity(CHUNKS);
    for _ in 0..CHUNKS {
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        times.push(start.elapsed().as_nanos());
    }
    times.sort_unstable();
    Ok(times[CHUNKS / 4] as f64 / calls as f64)
}
