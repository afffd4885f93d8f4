//! The servers: one task each, and one for each connection.

use std::{future::Future, io::Result, net::SocketAddr, sync::Arc};

use lab::{Kind, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::dns::Zone;

/// The largest datagram, and the most a server reads at once.
const BUFFER: usize = 65_535;

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
      Connection: close\r\n\r\nhello\n";

/// Listens, and serves in the background.
pub(crate) async fn start(server: &Server, zone: &Zone) -> Result<()> {
    match server.kind {
        Kind::TcpEcho => tcp(server.at, echo).await,
        Kind::Http => tcp(server.at, page).await,
        Kind::TcpReset => tcp(server.at, reset).await,
        Kind::UdpEcho => udp(server.at, |question| Some(question.to_vec())).await,
        Kind::UdpSink => udp(server.at, |_| None).await,
        Kind::Ntp => udp(server.at, ntp).await,
        Kind::Dns => dns(server.at, zone).await,
    }
}

async fn dns(at: SocketAddr, zone: &Zone) -> Result<()> {
    let for_udp = zone.clone();
    udp(at, move |question| for_udp.answer(question)).await?;
    let zone = Arc::new(zone.clone());
    tcp(at, move |stream| dns_over_tcp(stream, Arc::clone(&zone))).await
}

/// Accepts connections at `at` and has each served by `serve`.
async fn tcp<F, S>(at: SocketAddr, serve: S) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind(at).await?;
    tokio::spawn(async move {
        // A failure is one connection's: out of file descriptors, or gone before it was taken.
        loop {
            if let Ok((stream, _peer)) = listener.accept().await {
                tokio::spawn(serve(stream));
            } else {
                tokio::task::yield_now().await;
            }
        }
    });
    Ok(())
}

/// Answers datagrams at `at`.
async fn udp<A>(at: SocketAddr, answer: A) -> Result<()>
where
    A: Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind(at).await?;
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        loop {
            // A failure is about an earlier answer that could not be delivered.
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            if let Some(answer) = answer(&buffer[..length]) {
                let _unreachable = socket.send_to(&answer, peer).await;
            }
        }
    });
    Ok(())
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    let (mut read, mut write) = stream.split();
    copy(&mut read, &mut write).await?;
    write.shutdown().await
}

async fn page(mut stream: TcpStream) -> Result<()> {
    let mut request = vec![0; BUFFER];
    if stream.read(&mut request).await? > 0 {
        stream.write_all(PAGE).await?;
    }
    stream.shutdown().await
}

async fn reset(mut stream: TcpStream) -> Result<()> {
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await?;
    // Closed at once instead of in good order: the peer gets a RST.
    stream.set_zero_linger()
}

async fn dns_over_tcp(mut stream: TcpStream, zone: Arc<Zone>) -> Result<()> {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let Some(answer) = zone.answer(&question) else {
            break;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            break;
        };
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
    stream.shutdown().await
}

/// A server's answer of the right length, mode and stratum. The times in it are not told.
fn ntp(question: &[u8]) -> Option<Vec<u8>> {
    const LENGTH: usize = 48;
    const VERSION_4_SERVER: u8 = 0b00_100_100;
    (question.len() >= LENGTH).then(|| {
        let mut answer = vec![0; LENGTH];
        answer[0] = VERSION_4_SERVER;
        answer[1] = 1;
        answer
    })
}
