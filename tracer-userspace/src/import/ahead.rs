//! `Ahead`: what a thread of its own has read in advance, and hashed if asked to.

use std::{
    io::{self, Read},
    panic::resume_unwind,
    sync::mpsc::{self, Receiver, Sender, SyncSender},
    thread,
};

use sha2::{Digest as _, Sha256};

use crate::import::{
    blocks::hex,
    buffer::{Buffer, Pieces},
};

/// Chunks that may wait.
const WAITING: usize = 4;

/// The bytes that another thread reads.
pub(super) struct Ahead {
    chunks: Receiver<io::Result<Buffer>>,
    /// Buffers to use again.
    used: Sender<Buffer>,
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
        let mut ahead = Ahead { chunks, used };
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

impl Pieces for Ahead {
    fn next(&mut self, used: Buffer) -> io::Result<Option<Buffer>> {
        // Nobody takes it back once everything is read.
        let _ = self.used.send(used);
        self.chunks.recv().ok().transpose()
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
            while let Some(piece) = ahead.next(Buffer::default()).unwrap() {
                read.extend_from_slice(&piece);
            }
            read
        };
        let (taken, sha256) = read(&bytes[..], true, whole);
        assert_eq!(taken, bytes);
        assert_eq!(sha256, digest(&bytes));
        let (_, sha256) = read(&bytes[..], true, |ahead| ahead.next(Buffer::default()));
        assert_eq!(sha256, digest(&bytes));
        let (_, sha256) = read(&bytes[..], false, |ahead| ahead.next(Buffer::default()));
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
        let (_, sha256) = read(reader, true, |ahead| {
            let before = ahead.next(Buffer::default()).unwrap();
            assert_eq!(before.as_deref(), Some(&b"before"[..]));
            let error = ahead.next(Buffer::default()).unwrap_err();
            assert_eq!(error.to_string(), "gone");
        });
        assert_eq!(sha256, digest(b"before"));
    }
}
