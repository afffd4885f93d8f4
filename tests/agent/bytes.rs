//! Saying exactly these bytes.

use std::{
    io::{Error, ErrorKind, Read as _, Result, Write as _},
    net::TcpStream,
    thread::sleep,
    time::Duration,
};

use crate::{PATIENCE, first, socket_for};

/// Between two pieces, so that each leaves in a segment of its own.
const PAUSE: Duration = Duration::from_millis(20);

/// `pieces` are in hexadecimal, separated by commas; `kind` is tcp or udp.
pub(crate) fn say(kind: &str, at: &str, pieces: &str) -> Result<String> {
    let pieces: Vec<Vec<u8>> = pieces.split(',').map(bytes).collect::<Result<_>>()?;
    let to = first(at)?;
    let mut answer = [0; 65_535];
    let answered = if kind == "tcp" {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        for piece in &pieces {
            stream.write_all(piece)?;
            sleep(PAUSE);
        }
        stream.read(&mut answer)
    } else {
        let socket = socket_for(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for piece in &pieces {
            socket.send_to(piece, to)?;
        }
        socket.recv(&mut answer)
    };
    match answered {
        Ok(length) => Ok(format!("{to} ({length} bytes came back)")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(format!("{to} (no answer)")),
        Err(error) => Err(error),
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = hex.chars().collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))
}
