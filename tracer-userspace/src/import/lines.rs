//! Lines of bounded length, one after the other, read and hashed by a thread of their own.

use std::{io::Read, ops::ControlFlow, panic::resume_unwind, sync::mpsc, thread};

use crate::import::blocks::{Block, Ended, Reading, WAITING};

/// Longer lines are skipped. Our own records stay far below.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// One line, without what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'b> {
    Text(&'b [u8]),
    /// It is not kept in memory.
    TooLong,
}

/// One line, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'b> {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) content: Content<'b>,
    /// In bytes, with what ends it.
    pub(super) length: usize,
    /// Whether it was ended, rather than just the last thing there.
    pub(super) is_ended: bool,
}

impl Line<'static> {
    /// One that was skipped when it was read.
    pub(super) fn too_long(number: u64) -> Self {
        Self {
            number,
            content: Content::TooLong,
            length: 0,
            is_ended: true,
        }
    }
}

/// Hands every line to `each`, in order, until it breaks.
pub(super) fn each(
    reader: impl Read + Send,
    mut each: impl FnMut(Line<'_>) -> ControlFlow<()>,
) -> Ended {
    thread::scope(|scope| {
        let (full, blocks) = mpsc::sync_channel(WAITING);
        let (used, empty) = mpsc::channel();
        let reading = scope.spawn(move || Reading::new(vec![full], empty).all(reader));
        let mut number = 0;
        for block in &blocks {
            let before = number;
            let mut each = |line: Line<'_>| {
                number = line.number;
                each(line)
            };
            let went_on = match &block {
                Block::TooLong => each(Line::too_long(before + 1)),
                Block::Lines(bytes) => in_block(bytes, before, &mut each),
            };
            if went_on.is_break() {
                break;
            }
            if let Block::Lines(buffer) = block {
                // Nobody takes it back once everything is read.
                let _ = used.send(buffer);
            }
        }
        // Else the other thread would wait for room for ever.
        drop(blocks);
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Hands every line of a block to `each`, until it breaks; `before` is the number of the line
/// before the first.
pub(super) fn in_block(
    mut bytes: &[u8],
    before: u64,
    each: &mut impl FnMut(Line<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut number = before;
    while !bytes.is_empty() {
        number += 1;
        let end = memchr::memchr(b'\n', bytes);
        let length = end.map_or(bytes.len(), |end| end + 1);
        let (line, rest) = bytes.split_at(length);
        bytes = rest;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let content = if text.len() > MAX_LINE {
            Content::TooLong
        } else {
            Content::Text(text)
        };
        each(Line {
            number,
            content,
            length,
            is_ended: end.is_some(),
        })?;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::io;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::import::blocks::hex;

    /// Hands out a few bytes at a time.
    struct Slow<'b>(&'b [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn read(text: &[u8], step: usize) -> (Vec<Option<Vec<u8>>>, Ended) {
        let mut found = Vec::new();
        let ended = each(Slow(text, step), |line| {
            assert_eq!(line.number, found.len() as u64 + 1);
            found.push(match line.content {
                Content::Text(text) => Some(text.to_vec()),
                Content::TooLong => None,
            });
            ControlFlow::Continue(())
        });
        (found, ended)
    }

    fn digest(text: &[u8]) -> String {
        hex(Sha256::new_with_prefix(text))
    }

    #[test]
    fn lines_are_freed_of_ends_and_marks() {
        let text = b"\xef\xbb\xbfa\r\n\nb";
        for step in [1, 3, 100] {
            let (found, ended) = read(text, step);
            let expected = [&b"a"[..], b"", b"b"].map(|line| Some(line.to_vec()));
            assert_eq!(found, expected);
            assert_eq!(ended.sha256, digest(text));
            assert_eq!(ended.sha256_of_ended, digest(b"\xef\xbb\xbfa\r\n\n"));
        }
    }

    #[test]
    fn a_long_line_is_skipped_and_in_the_digest() {
        let long = vec![b'x'; 3 * MAX_LINE];
        for text in [
            [&b"a\n"[..], &long, b"\nnext\n"].concat(),
            [&b"a\n"[..], &long, b"\nnext\n", &long].concat(),
        ] {
            let (found, ended) = read(&text, 1 << 16);
            assert_eq!(found[0].as_deref(), Some(&b"a"[..]));
            assert_eq!(found[1], None);
            assert_eq!(found[2].as_deref(), Some(&b"next"[..]));
            assert!(found[3..].iter().all(Option::is_none));
            assert_eq!(ended.sha256, digest(&text));
        }
    }

    #[test]
    fn who_has_enough_stops_the_reader() {
        let text = b"line\n".repeat(10_000_000 / 5);
        let mut seen = 0;
        let ended = each(&text[..], |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(seen, 1);
        assert!(ended.error.is_none());
    }

    #[test]
    fn what_came_before_an_error_counts() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("gone"));
                }
                buffer[..6].copy_from_slice(b"a\nb\nc\n");
                Ok(6)
            }
        }
        let mut seen = 0;
        let ended = each(Broken(false), |_| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, 3);
        assert_eq!(ended.error.unwrap().to_string(), "gone");
    }
}
