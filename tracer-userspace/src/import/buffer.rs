//! `Buffer`: bytes that are read in big pieces, straight from the file, into memory that is used again.

use std::{
    io::{self, ErrorKind, Read},
    ops::Deref,
};

/// Read at a time: big enough that neither system calls nor hand-overs count, and that buffering
/// readers pass it on.
const PIECE: usize = 256 * 1024;

/// Room in front of it, for what the piece before ended within.
const FRONT: usize = 64 * 1024;

/// Bytes, and room around them that need not be cleared again.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    room: Vec<u8>,
    begin: usize,
    end: usize,
}

/// What is read, piece by piece.
pub(super) trait Pieces {
    /// The next piece, in exchange for the one before it; `None` at the end.
    fn next(&mut self, used: Buffer) -> io::Result<Option<Buffer>>;
}

/// Read when it is asked for.
pub(super) struct Direct<R>(pub(super) R);

impl<R: Read> Pieces for Direct<R> {
    fn next(&mut self, mut buffer: Buffer) -> io::Result<Option<Buffer>> {
        let (length, result) = buffer.refill(&[], &mut self.0);
        match result {
            // What came before it is used first; then the reader fails again, or is at its end.
            Err(error) if length == 0 => Err(error),
            Ok(()) | Err(_) => Ok((length > 0).then_some(buffer)),
        }
    }
}

impl Buffer {
    /// Replaces what there is by `beginning` and the next piece of `reader`, which is not full only
    /// at its end or before an error. How much was read, or what went wrong after as much as is there.
    pub(super) fn refill(
        &mut self,
        beginning: &[u8],
        reader: &mut impl Read,
    ) -> (usize, io::Result<()>) {
        let begin = FRONT.max(beginning.len());
        let full = begin + PIECE;
        if self.room.len() < full {
            self.room.resize(full, 0);
        }
        (self.begin, self.end) = (begin, begin);
        let mut result = Ok(());
        while self.end < full && result.is_ok() {
            match reader.read(&mut self.room[self.end..full]) {
                Ok(0) => break,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let length = self.len();
        self.put_before(beginning);
        (length, result)
    }

    /// Puts `beginning` in front of what there is.
    pub(super) fn put_before(&mut self, beginning: &[u8]) {
        if let Some(begin) = self.begin.checked_sub(beginning.len()) {
            self.room[begin..self.begin].copy_from_slice(beginning);
            self.begin = begin;
            return;
        }
        self.room.splice(..self.begin, beginning.iter().copied());
        self.end = self.end - self.begin + beginning.len();
        self.begin = 0;
    }

    /// Leaves out what comes after the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.begin + length);
    }

    /// Leaves out the first `length` bytes.
    pub(super) fn skip(&mut self, length: usize) {
        self.begin = self.end.min(self.begin + length);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[self.begin..self.end]
    }
}
