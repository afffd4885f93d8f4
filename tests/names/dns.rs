//! A resolver whose answers never stay the same, and a stub that asks it. Messages are written by
//! hand, so that a test can put into them whatever a workload might.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// What a question is about: an address.
const TYPE_A: [u8; 4] = [0, 1, 0, 1];
/// The question's own name, by a pointer.
const SAME_NAME: [u8; 2] = [0xc0, 12];
const TTL: u32 = 5;

/// Where the fresh addresses are: 198.18.0.0/15, which is for benchmarks.
const FRESH: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const SIZE: u32 = 1 << 17;
/// From one to the next: into another network each time, and to all of them before the first again.
const STEP: u32 = 257;

/// How many fresh addresses were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(Arc<AtomicU32>);

impl Given {
    fn next(&self) -> Ipv4Addr {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ipv4Addr::from(FRESH + number.wrapping_mul(STEP) % SIZE)
    }
}

/// Answers over UDP and TCP until the process ends. On a thread whose sockets belong to the server's
/// namespace.
pub(crate) fn serve(at: SocketAddr, given: &Given) -> io::Result<()> {
    let (udp, tcp) = (UdpSocket::bind(at)?, TcpListener::bind(at)?);
    let by_udp = given.clone();
    thread::spawn(move || {
        let mut question = [0; 2048];
        while let Ok((length, client)) = udp.recv_from(&mut question) {
            if let Some(answer) = answer(&question[..length], &by_udp) {
                let _sent = udp.send_to(&answer, client);
            }
        }
    });
    let given = given.clone();
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let _served = by_tcp(stream, &given);
        }
    });
    Ok(())
}

fn by_tcp(mut stream: TcpStream, given: &Given) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    if let Some(answer) = answer(&question, given) {
        stream.set_nodelay(true)?;
        let whole = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        // In two segments: the first must not decide anything.
        stream.write_all(&whole[..5])?;
        thread::sleep(Duration::from_millis(20));
        stream.write_all(&whole[5..])?;
    }
    Ok(())
}

/// What is answered: names that begin with `chain` by way of an alias, those with `silent` never, the
/// others with one address that nobody was given before.
fn answer(question: &[u8], given: &Given) -> Option<Vec<u8>> {
    let asked = question.get(12..)?;
    let first_label = asked.get(1..=usize::from(*asked.first()?))?;
    if first_label == b"silent" {
        return None;
    }
    let mut answer = [&question[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    // Nothing but the question: what else a stub sends is not echoed.
    let end = asked.iter().position(|byte| *byte == 0)? + 5;
    answer.extend(asked.get(..end)?);
    let address = given.next().octets();
    if first_label != b"chain" {
        answer.extend(record(&SAME_NAME, [0, 1], &address));
        return Some(answer);
    }
    answer[7] = 2;
    let alias = b"\x03cdn\x07example\x00";
    answer.extend(record(&SAME_NAME, [0, 5], alias));
    answer.extend(record(alias, [0, 1], &address));
    Some(answer)
}

fn record(name: &[u8], kind: [u8; 2], data: &[u8]) -> Vec<u8> {
    let ttl = TTL.to_be_bytes();
    let length = (data.len() as u16).to_be_bytes();
    [name, &kind, &[0, 1], &ttl, &length, data].concat()
}

/// A question; labels are bytes, whatever they are.
pub(crate) fn question(id: u16, labels: &[&[u8]]) -> Vec<u8> {
    let head = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    let name = labels
        .iter()
        .map(|label| [&[label.len() as u8], *label].concat());
    [
        head,
        name.collect::<Vec<_>>().concat(),
        vec![0],
        TYPE_A.to_vec(),
    ]
    .concat()
}

/// An answer to it, with one address.
pub(crate) fn forged(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let head = [&question[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    let address = record(&SAME_NAME, [0, 1], &address.octets());
    [head, question[12..].to_vec(), address].concat()
}

/// Asks over UDP for the address of a name; `None` if nobody answers within a second or two.
pub(crate) fn ask(server: SocketAddr, id: u16, labels: &[&[u8]]) -> Option<Ipv4Addr> {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket.send_to(&question(id, labels), server).ok()?;
    let mut answer = [0; 2048];
    let (length, from) = socket.recv_from(&mut answer).ok()?;
    (from == server).then(|| last_address(&answer[..length]))
}

/// The same over TCP.
pub(crate) fn ask_by_tcp(server: SocketAddr, labels: &[&[u8]]) -> Option<Ipv4Addr> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2)).ok()?;
    let question = question(7, labels);
    let length = (question.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], &question].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(last_address(&answer))
}

/// The server's answers end with an address.
fn last_address(answer: &[u8]) -> Ipv4Addr {
    let last: [u8; 4] = answer[answer.len() - 4..].try_into().unwrap();
    Ipv4Addr::from(last)
}

/// `a.b.example` as labels.
pub(crate) fn labels(name: &str) -> Vec<&[u8]> {
    name.split('.').map(str::as_bytes).collect()
}
