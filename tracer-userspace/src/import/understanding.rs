//! Lines understood by several threads at a time, and taken in by one, in order.
//!
//! The reading thread hands blocks of lines to the others in turn, and what they made of them is
//! collected in the same turn: neither order nor memory depends on who is faster. Lines of nothing
//! but a destination, whose order does not matter, are summed where they were read.

use std::{
    io::Read,
    ops::{ControlFlow, Range},
    panic::resume_unwind,
    sync::mpsc::{self, Receiver, SyncSender},
    thread::{self, ScopedJoinHandle},
};

use crate::import::{
    blocks::{Block, Ended, Reading, WAITING},
    line::{self, Parsed},
    lines::{self, Content, Line},
    plain::Scanner,
    tally::{Key, Sum, Tally},
};

/// More would wait for the one that reads.
const MAX_THREADS: usize = 4;

/// A block and what was made of it.
pub(super) struct Piece {
    pub(super) block: Block,
    /// How many lines it has.
    pub(super) lines: u64,
    /// What stands in it beside what was summed, in order.
    pub(super) others: Vec<Other>,
    /// Sums that had to make room.
    pub(super) sums: Vec<(Key, Sum)>,
}

/// Lines of a block.
pub(super) struct Other {
    /// How many lines stand before them.
    pub(super) before: u64,
    pub(super) said: Said,
}

pub(super) enum Said {
    Parsed(Box<Parsed>),
    /// Whole lines that are wrong, or depend on lines before them.
    Unread(Range<usize>),
}

/// What one thread knows from line to line.
#[derive(Default)]
struct Understanding {
    scanner: Scanner,
    tally: Tally,
}

struct Worker<'scope> {
    pieces: Receiver<Piece>,
    thread: ScopedJoinHandle<'scope, Tally>,
}

/// Hands every block to `take`, in order, until it breaks. What was summed comes back at the end.
pub(super) fn read(
    reader: impl Read + Send,
    mut take: impl FnMut(&mut Piece) -> ControlFlow<()>,
) -> (Ended, Vec<Tally>) {
    thread::scope(|scope| {
        let (used, empty) = mpsc::channel();
        let begin = |_| {
            let (full, blocks) = mpsc::sync_channel(WAITING);
            let (done, pieces) = mpsc::sync_channel(WAITING);
            let thread = scope.spawn(move || work(&blocks, &done));
            (full, Worker { pieces, thread })
        };
        let (full, workers): (_, Vec<_>) = (0..threads()).map(begin).unzip();
        let reading = scope.spawn(move || Reading::new(full, empty).all(reader));
        for worker in workers.iter().cycle() {
            let Ok(mut piece) = worker.pieces.recv() else {
                break;
            };
            if take(&mut piece).is_break() {
                break;
            }
            if let Block::Lines(buffer) = piece.block {
                // Nobody takes it back once everything is read.
                let _ = used.send(buffer);
            }
        }
        // Nobody waits for room any more, once nobody listens.
        let threads: Vec<_> = workers.into_iter().map(|worker| worker.thread).collect();
        let tallies = threads.into_iter().map(join).collect();
        (join(reading), tallies)
    })
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS))
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn work(blocks: &Receiver<Block>, done: &SyncSender<Piece>) -> Tally {
    let mut understanding = Understanding::default();
    for block in blocks {
        if done.send(understanding.block(block)).is_err() {
            break;
        }
    }
    understanding.tally
}

impl Understanding {
    fn block(&mut self, block: Block) -> Piece {
        let mut piece = Piece {
            block: Block::TooLong,
            lines: 1,
            others: Vec::new(),
            sums: Vec::new(),
        };
        if let Block::Lines(bytes) = &block {
            piece.lines = 0;
            let mut end = 0;
            // It never breaks.
            let _ = lines::in_block(bytes, 0, &mut |line| {
                piece.lines = line.number;
                let begin = end;
                end += line.length;
                self.line(line, begin, &mut piece);
                ControlFlow::Continue(())
            });
        }
        Piece { block, ..piece }
    }

    fn line(&mut self, line: Line<'_>, begin: usize, piece: &mut Piece) {
        if let Content::Text(text) = line.content {
            if let Some(plain) = self.scanner.scan(text) {
                if self.tally.add(&plain) {
                    piece.sums.extend(self.tally.take());
                }
                return;
            }
            // Others may be rows of a table.
            if text.starts_with(b"{")
                && let Ok(parsed) = line::parse(text)
            {
                piece.others.push(Other {
                    before: line.number - 1,
                    said: Said::Parsed(Box::new(parsed)),
                });
                return;
            }
        }
        piece.unread(line.number - 1, begin..begin + line.length);
    }
}

impl Piece {
    /// Lines that follow each other are one range.
    fn unread(&mut self, before: u64, range: Range<usize>) {
        if let Some(Other {
            said: Said::Unread(known),
            ..
        }) = self.others.last_mut()
            && known.end == range.start
        {
            known.end = range.end;
            return;
        }
        self.others.push(Other {
            before,
            said: Said::Unread(range),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What is left to the one thread: each line's number, and its length unless it was parsed.
    type Left = Vec<(u64, Option<usize>)>;
    type Lines = HashMap<Key, u64>;

    fn in_parallel(text: &[u8]) -> (Left, Lines, Ended) {
        let (mut left, mut sums, mut before) = (Left::new(), Lines::new(), 0);
        let (ended, tallies) = read(text, |piece| {
            add(&mut sums, piece.sums.drain(..));
            if let Block::TooLong = piece.block {
                left.push((before + 1, Some(0)));
            }
            for other in &piece.others {
                let first = before + other.before;
                match (&other.said, &piece.block) {
                    (Said::Unread(range), Block::Lines(bytes)) => {
                        let _ = lines::in_block(&bytes[range.clone()], first, &mut |line| {
                            left.push((line.number, Some(line.length)));
                            ControlFlow::Continue(())
                        });
                    }
                    (Said::Parsed(_), _) | (Said::Unread(_), Block::TooLong) => {
                        left.push((first + 1, None));
                    }
                }
            }
            before += piece.lines;
            ControlFlow::Continue(())
        });
        for mut tally in tallies {
            add(&mut sums, tally.take());
        }
        (left, sums, ended)
    }

    fn add(lines: &mut Lines, sums: impl Iterator<Item = (Key, Sum)>) {
        for (key, sum) in sums {
            *lines.entry(key).or_default() += sum.lines;
        }
    }

    fn one_by_one(text: &[u8]) -> (Left, Lines, Ended) {
        let (mut left, mut tally, mut scanner) =
            (Left::new(), Tally::default(), Scanner::default());
        let ended = lines::each(text, |line| {
            let number = line.number;
            if let Content::Text(text) = line.content {
                if let Some(plain) = scanner.scan(text) {
                    tally.add(&plain);
                    return ControlFlow::Continue(());
                }
                if text.starts_with(b"{") && line::parse(text).is_ok() {
                    left.push((number, None));
                    return ControlFlow::Continue(());
                }
            }
            left.push((number, Some(line.length)));
            ControlFlow::Continue(())
        });
        let mut sums = Lines::new();
        add(&mut sums, tally.take());
        (left, sums, ended)
    }

    #[test]
    fn several_threads_make_the_same_of_it_as_one() {
        let mut text = b"\xef\xbb\xbf".to_vec();
        for number in 0..60_000_u32 {
            let [_, _, high, low] = (number % 700).to_be_bytes();
            let port = number % 3 + 1;
            let line = match number % 97 {
                0 => "junk\r\n\n".to_owned(),
                1 => format!("{{\"dest_ip\":\"1.2.3.4\",\"dest_port\":{port},\"x\":[]}}\n"),
                2 => "#fields\ta\tb\n1\t2\n".to_owned(),
                _ => format!("{{\"dest_ip\":\"198.18.{high}.{low}\",\"dest_port\":{port}}}\n"),
            };
            text.extend(line.into_bytes());
            if number == 30_000 {
                text.resize(text.len() + 3 * lines::MAX_LINE, b'x');
                text.push(b'\n');
            }
        }
        text.extend(b"{\"dest_ip\":\"1.2.3.4\"");
        let (left, sums, ended) = in_parallel(&text);
        let (expected_left, expected_sums, expected) = one_by_one(&text);
        assert_eq!(left, expected_left);
        assert_eq!(sums, expected_sums);
        assert_eq!(ended.sha256, expected.sha256);
        assert_eq!(ended.sha256_of_ended, expected.sha256_of_ended);
    }

    #[test]
    fn who_has_enough_stops_all_threads() {
        let text = b"{\"dest_ip\":\"1.2.3.4\",\"dest_port\":1}\n".repeat(200_000);
        let mut pieces = 0;
        let (ended, _) = read(&text[..], |_| {
            pieces += 1;
            ControlFlow::Break(())
        });
        assert_eq!(pieces, 1);
        assert!(ended.error.is_none());
    }
}
