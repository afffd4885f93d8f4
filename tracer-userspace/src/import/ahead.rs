//! `Ahead`: what a thread of its own has read in advance, and hashed if asked to.

use std::{
    io::{self, Read},
    panic::resume_unwind,
    sync::mpsc::{self, Receiver, Sender, SyncSender},
    thread,
};

use sha2::{Digest as _, Sha256};

use crate::import::{blocks::hex, buffer::Buffer};

/// Chunks that may wait.
const WAITING: usize = 4;

/// The bytes that another thread reads.
pub(super) struct Ahead {
    chunks: Receiver<io::Result<Buffer>>,
    /// Buffers to use again.
    used: Sender<Buffer>,
    current: Buffer,
    /// How much of it was handed out.
    handed: usize,
}

/// Gives `take` what `reader` reads, and returns beside its result the SHA-256 in hex of everything
/// that there is to read, what `take` left over too; `None` unless `is_hashed`.
pub(super) fn read<T>(
    reader: impl Read + Send,
    is_hashed: bool,
    take: impl FnOnce(&mut Ahead) -> T,
) -> (T, Option<String>) {
    thread::scope(|scope| {
        let (full, chunks) = mpsc::sync_channel(WAITING);
        let (used, empty) = mpsc::channel();
        let digest = is_hashed.then(Sha256::new);
        let reading = scope.spawn(move || all(reader, digest, &full, &empty));
        let mut ahead = Ahead {
            chunks,
            used,
            current: Buffer::default(),
            handed: 0,
        };
        let taken = take(&mut ahead);
        // Nobody waits for room any more, once nobody listens.
        drop(ahead);
        let digest = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
        (taken, digest.map(hex))
    })
}

fn all(
    mut reader: impl Read,
    mut digest: Option<Sha256>,
    full: &SyncSender<io::Result<Buffer>>,
    empty: &Receiver<Buffer>,
) -> Option<Sha256> {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        let (length, result) = chunk.refill(&[], &mut reader);
        if let Some(digest) = &mut digest {
            digest.update(&*chunk);
        }
        let is_end = length == 0;
        // What came before an error counts.
        let sent = if is_end { Ok(()) } else { full.send(Ok(chunk)) };
        match result {
            Err(error) => {
                // Whoever does not listen any more needs no reason either.
                let _ = full.send(Err(error));
                return digest;
            }
            Ok(()) if is_end || sent.is_err() && digest.is_none() => return digest,
            Ok(()) => {}
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.handed == self.current.len() {
            match self.chunks.recv() {
                Ok(chunk) => {
                    let used = std::mem::replace(&mut self.current, chunk?);
                    self.handed = 0;
                    // Nobody takes it back once everything is read.
                    let _ = self.used.send(used);
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.handed..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.handed += length;
        Ok(length)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Option<String> {
        Some(hex(Sha256::new_with_prefix(bytes)))
    }

    #[test]
    fn everything_comes_in_order_and_what_is_left_over_is_in_the_digest() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|byte| byte as u8).collect();
        let whole = |ahead: &mut Ahead| {
            let mut read = Vec::new();
            ahead.read_to_end(&mut read).map(|_| read)
        };
        let (taken, sha256) = read(&bytes[..], true, whole);
        assert_eq!(taken.unwrap(), bytes);
        assert_eq!(sha256, digest(&bytes));
        let (_, sha256) = read(&bytes[..], true, |ahead| ahead.read(&mut [0; 7]));
        assert_eq!(sha256, digest(&bytes));
        let (_, sha256) = read(&bytes[..], false, |ahead| ahead.read(&mut [0; 7]));
        assert_eq!(sha256, None);
    }

    #[test]
    fn what_came_before_an_error_counts() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let reader = b"before".chain(Broken);
        let (result, sha256) = read(reader, true, |ahead| {
            let mut head = [0; 6];
            ahead.read_exact(&mut head).unwrap();
            (head, ahead.read(&mut [0; 1]).unwrap_err().to_string())
        });
        assert_eq!(result, (*b"before", "gone".to_owned()));
        assert_eq!(sha256, digest(b"before"));
    }
}
