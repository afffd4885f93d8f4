//! Blocks of whole lines: the reading thread, which hashes what it reads.

use std::{
    io::{self, Read},
    ops::ControlFlow,
    sync::mpsc::{Receiver, SyncSender},
};

use sha2::{Digest, Sha256};

use crate::import::{buffer::Buffer, lines::MAX_LINE};

/// Blocks that may wait for the thread that understands them.
pub(super) const WAITING: usize = 2;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whole lines, or the news that one was too long.
pub(super) enum Block {
    /// Each line is ended, except perhaps the last one of the last block.
    Lines(Buffer),
    TooLong,
}

/// What is known once everything is read.
#[derive(Debug)]
pub(super) struct Ended {
    /// SHA-256 in hex of every byte.
    pub(super) sha256: String,
    /// The same without a last line that was not ended.
    pub(super) sha256_of_ended: String,
    /// Why reading stopped early.
    pub(super) error: Option<io::Error>,
}

/// The reading thread: cuts what it reads after the last end of a line, and hands the blocks to
/// each receiver in turn. A byte order mark in front of everything is left
/// out.
pub(super) struct Reading {
    full: Vec<SyncSender<Block>>,
    turn: usize,
    /// Buffers to use again.
    empty: Receiver<Buffer>,
    digest: Sha256,
    /// Something was handed on.
    is_begun: bool,
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
    /// In the middle of a line that is too long.
    is_skipping: bool,
}

impl Reading {
    pub(super) fn new(full: Vec<SyncSender<Block>>, empty: Receiver<Buffer>) -> Self {
        Self {
            full,
            turn: 0,
            empty,
            digest: Sha256::new(),
            is_begun: false,
            carry: Vec::new(),
            is_skipping: false,
        }
    }

    /// Reads to the end, or until nobody wants more.
    pub(super) fn all(mut self, mut reader: impl Read) -> Ended {
        let error = loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            let (length, result) = buffer.refill(&self.carry, &mut reader);
            self.carry.clear();
            // What came before an error counts.
            let went_on = self.take(buffer);
            match result {
                Err(error) => break Some(error),
                Ok(()) if length == 0 || went_on.is_break() => break None,
                Ok(()) => {}
            }
        };
        self.finish(error)
    }

    fn take(&mut self, mut buffer: Buffer) -> ControlFlow<()> {
        if self.is_skipping {
            let end = memchr::memchr(b'\n', &buffer);
            let skipped = end.map_or(buffer.len(), |end| end + 1);
            self.digest.update(&buffer[..skipped]);
            buffer.skip(skipped);
            if end.is_none() {
                return ControlFlow::Continue(());
            }
            self.is_skipping = false;
            self.send(Block::TooLong)?;
        }
        match memchr::memrchr(b'\n', &buffer) {
            Some(end) => {
                self.carry.extend_from_slice(&buffer[end + 1..]);
                buffer.truncate(end + 1);
                self.digest.update(&*buffer);
                self.send(Block::Lines(buffer))
            }
            None if buffer.len() > MAX_LINE => {
                self.digest.update(&*buffer);
                self.is_skipping = true;
                ControlFlow::Continue(())
            }
            None => {
                self.carry.extend_from_slice(&buffer);
                ControlFlow::Continue(())
            }
        }
    }

    fn finish(mut self, error: Option<io::Error>) -> Ended {
        let before = self.digest.clone();
        let mut last = Buffer::default();
        // There is nothing to read any more.
        let _ = last.refill(&self.carry, &mut io::empty());
        self.digest.update(&*last);
        if self.is_skipping {
            let _ = self.send(Block::TooLong);
        } else if !last.is_empty() {
            let _ = self.send(Block::Lines(last));
        }
        Ended {
            sha256: hex(self.digest),
            sha256_of_ended: hex(before),
            error,
        }
    }

    /// Breaks when nobody wants more.
    fn send(&mut self, mut block: Block) -> ControlFlow<()> {
        if let Block::Lines(bytes) = &mut block
            && !self.is_begun
            && bytes.starts_with(BYTE_ORDER_MARK)
        {
            bytes.skip(BYTE_ORDER_MARK.len());
        }
        self.is_begun = true;
        let receiver = &self.full[self.turn];
        self.turn = (self.turn + 1) % self.full.len();
        match receiver.send(block) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

pub(super) fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
