//! `Buffer`: bytes that are read in big pieces, straight from the file, into memory that is used again.

use std::{
    io::{self, ErrorKind, Read},
    ops::Deref,
};

/// Read at a time: big enough that neither system calls nor hand-overs count, and that buffering
/// readers pass it on.
const PIECE: usize = 256 * 1024;

/// Bytes, and room behind them that need not be cleared again.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    room: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// Replaces what there is by `beginning` and the next piece of `reader`, which is not full only
    /// at its end or before an error. How much was read, or what went wrong after as much as is there.
    pub(super) fn refill(
        &mut self,
        beginning: &[u8],
        reader: &mut impl Read,
    ) -> (usize, io::Result<()>) {
        let end = beginning.len() + PIECE;
        if self.room.len() < end {
            self.room.resize(end, 0);
        }
        self.room[..beginning.len()].copy_from_slice(beginning);
        self.length = beginning.len();
        let mut result = Ok(());
        while self.length < end && result.is_ok() {
            match reader.read(&mut self.room[self.length..end]) {
                Ok(0) => break,
                Ok(more) => self.length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        (self.length - beginning.len(), result)
    }

    /// Leaves out what comes after the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Leaves out the first `length` bytes.
    pub(super) fn skip(&mut self, length: usize) {
        let length = length.min(self.length);
        self.room.copy_within(length..self.length, 0);
        self.length -= length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}
