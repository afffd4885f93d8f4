//! Lines of bounded length, read and hashed by a thread of their own while another understands them.

use std::{
    io::{self, Read},
    ops::ControlFlow,
    panic::resume_unwind,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
};

use sha2::{Digest, Sha256};

/// Longer lines are skipped. Our own records stay far below.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// Read at a time: big enough that neither system calls nor hand-overs count.
const CHUNK: u64 = 256 * 1024;
/// Blocks that may wait for the thread that understands them.
const WAITING: usize = 4;

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
    /// Whether it was ended, rather than just the last thing there.
    pub(super) is_ended: bool,
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

/// Whole lines, or the news that one was too long.
enum Block {
    /// Each line is ended, except perhaps the last one of the last block.
    Lines(Vec<u8>),
    TooLong,
}

/// Hands every line to `each`, in order, until it breaks.
pub(super) fn each(
    reader: impl Read + Send,
    mut each: impl FnMut(Line<'_>) -> ControlFlow<()>,
) -> Ended {
    thread::scope(|scope| {
        let (full, blocks) = mpsc::sync_channel(WAITING);
        let (used, empty) = mpsc::channel();
        let reading = scope.spawn(move || Reading::new(full, empty).all(reader));
        let mut number = 0;
        for block in &blocks {
            let went_on = match &block {
                Block::TooLong => {
                    number += 1;
                    each(Line {
                        number,
                        content: Content::TooLong,
                        is_ended: true,
                    })
                }
                Block::Lines(bytes) => lines(bytes, &mut number, &mut each),
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

fn lines(
    mut bytes: &[u8],
    number: &mut u64,
    each: &mut impl FnMut(Line<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while !bytes.is_empty() {
        *number += 1;
        let end = memchr::memchr(b'\n', bytes);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        bytes = rest.get(1..).unwrap_or_default();
        let content = if line.len() > MAX_LINE {
            Content::TooLong
        } else {
            Content::Text(bare(line, *number))
        };
        each(Line {
            number: *number,
            content,
            is_ended: end.is_some(),
        })?;
    }
    ControlFlow::Continue(())
}

/// Without a carriage return at the end, and without a byte order mark in front of everything.
fn bare(line: &[u8], number: u64) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match number {
        1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        _ => line,
    }
}

/// The reading thread: cuts what it reads after the last end of a line.
struct Reading {
    full: SyncSender<Block>,
    /// Buffers to use again.
    empty: Receiver<Vec<u8>>,
    digest: Sha256,
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
    /// In the middle of a line that is too long.
    is_skipping: bool,
}

impl Reading {
    fn new(full: SyncSender<Block>, empty: Receiver<Vec<u8>>) -> Self {
        Self {
            full,
            empty,
            digest: Sha256::new(),
            carry: Vec::new(),
            is_skipping: false,
        }
    }

    fn all(mut self, mut reader: impl Read) -> Ended {
        let error = loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.clear();
            buffer.append(&mut self.carry);
            // What came before an error counts.
            let result = reader.by_ref().take(CHUNK).read_to_end(&mut buffer);
            let went_on = self.take(buffer);
            match result {
                Ok(0) => break None,
                Err(error) => break Some(error),
                Ok(_) if went_on.is_break() => break None,
                Ok(_) => {}
            }
        };
        self.finish(error)
    }

    fn take(&mut self, mut buffer: Vec<u8>) -> ControlFlow<()> {
        if self.is_skipping {
            let end = memchr::memchr(b'\n', &buffer);
            let skipped = end.map_or(buffer.len(), |end| end + 1);
            self.digest.update(&buffer[..skipped]);
            buffer.drain(..skipped);
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
                self.digest.update(&buffer);
                self.send(Block::Lines(buffer))
            }
            None if buffer.len() > MAX_LINE => {
                self.digest.update(&buffer);
                self.is_skipping = true;
                ControlFlow::Continue(())
            }
            None => {
                self.carry = buffer;
                ControlFlow::Continue(())
            }
        }
    }

    fn finish(mut self, error: Option<io::Error>) -> Ended {
        let before = self.digest.clone();
        let last = std::mem::take(&mut self.carry);
        self.digest.update(&last);
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
    fn send(&self, block: Block) -> ControlFlow<()> {
        match self.full.send(block) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

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
