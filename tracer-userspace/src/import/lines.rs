//! Lines of bounded length, and the digest of everything read.

use std::io::{self, BufRead};

use sha2::{Digest, Sha256};

/// Longer lines are skipped. Our own records stay far below.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// One line, without what ends it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'b> {
    Text(&'b [u8]),
    /// It is not kept in memory.
    TooLong,
}

/// Reads lines and keeps the digest of every byte up to the current line.
pub(super) struct Lines<R> {
    reader: R,
    /// The current line with what ends it; not in the digest yet.
    current: Vec<u8>,
    digest: Sha256,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            current: Vec::new(),
            digest: Sha256::new(),
            number: 0,
        }
    }

    /// The current line's number, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the current line was ended, rather than just the last thing there.
    pub(super) fn is_ended(&self) -> bool {
        self.current.ends_with(b"\n")
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.digest.update(&self.current);
        self.current.clear();
        self.number += 1;
        let mut is_long = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = memchr::memchr(b'\n', chunk);
            let piece = &chunk[..end.map_or(chunk.len(), |end| end + 1)];
            let is_end = end.is_some() || piece.is_empty();
            is_long |= self.current.len() + piece.len() > MAX_LINE;
            if is_long {
                self.digest.update(&self.current);
                self.digest.update(piece);
                self.current.clear();
            } else {
                self.current.extend_from_slice(piece);
            }
            let length = piece.len();
            self.reader.consume(length);
            if is_end {
                break;
            }
        }
        if is_long {
            return Ok(Some(Line::TooLong));
        }
        let is_over = self.current.is_empty();
        Ok((!is_over).then(|| Line::Text(self.text())))
    }

    /// The digest in hex, of everything or of everything before the current line.
    pub(super) fn digest(mut self, with_current: bool) -> String {
        if with_current {
            self.digest.update(&self.current);
        }
        let bytes = self.digest.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn text(&self) -> &[u8] {
        let line = self.current.strip_suffix(b"\n").unwrap_or(&self.current);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.number {
            1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
            _ => line,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn lines_are_freed_of_ends_and_marks() {
        let mut lines = Lines::new(&b"\xef\xbb\xbfa\r\n\nb"[..]);
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"a")));
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"")));
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"b")));
        assert!(!lines.is_ended());
        assert_eq!(lines.number(), 3);
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_long_line_is_skipped_in_bounded_memory_and_in_the_digest() {
        let text = [vec![b'x'; 3 * MAX_LINE], b"\nnext\n".to_vec()].concat();
        let mut lines = Lines::new(io::BufReader::with_capacity(4096, &text[..]));
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert!(lines.current.capacity() <= 2 * MAX_LINE);
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"next")));
        assert_eq!(lines.next().unwrap(), None);
        let expected = Sha256::digest(&text);
        let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(lines.digest(true), expected);
    }

    #[test]
    fn a_digest_can_leave_the_last_line_out() {
        let mut lines = Lines::new(&b"a\nb"[..]);
        lines.next().unwrap();
        lines.next().unwrap();
        let mut shorter = Lines::new(&b"a\n"[..]);
        shorter.next().unwrap();
        assert_eq!(lines.digest(false), shorter.digest(true));
    }
}
