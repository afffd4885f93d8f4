//! `Stream`: the first bytes of one direction, put in order, in bounded memory.
//!
//! For TCP segments by sequence number and for QUIC's CRYPTO frames by offset. What is there
//! already wins over what is sent again: a receiver has read it by then.

/// How many pieces may wait for the one before them.
const MAX_WAITING: usize = 32;

/// Bytes in order, and pieces that wait for their turn.
#[derive(Clone, Debug)]
pub struct Stream {
    ready: Vec<u8>,
    /// The number of the byte after `ready`.
    next: u32,
    waiting: Vec<(u32, Vec<u8>)>,
    limit: usize,
    refused: u64,
}

impl Stream {
    /// A stream whose first byte has the number `first`. Neither what is ready nor what waits ever
    /// exceeds `limit` bytes.
    #[must_use]
    pub fn new(first: u32, limit: usize) -> Self {
        Self {
            ready: Vec::new(),
            next: first,
            waiting: Vec::new(),
            limit,
            refused: 0,
        }
    }

    /// Takes in a piece whose first byte has the number `number`. Whether there is more to read.
    pub fn push(&mut self, number: u32, piece: &[u8]) -> bool {
        let before = self.ready.len();
        if piece.is_empty() {
            return false;
        }
        if self.append(number, piece) {
            self.take_waiting();
        } else {
            self.keep(number, piece);
        }
        self.ready.len() > before
    }

    /// What is there without a gap, as far as it was not consumed.
    #[must_use]
    pub fn ready(&self) -> &[u8] {
        &self.ready
    }

    /// Forgets the first `length` ready bytes.
    pub fn consume(&mut self, length: usize) {
        self.ready.drain(..length.min(self.ready.len()));
    }

    /// Whether nothing more will ever become ready, short of consuming.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ready.len() >= self.limit
    }

    /// Pieces that found no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Appends what is new of a piece that does not start beyond the end; false if it does.
    fn append(&mut self, number: u32, piece: &[u8]) -> bool {
        // Sequence numbers wrap: what is less than half the space behind is old.
        let known = self.next.wrapping_sub(number);
        if known > u32::MAX / 2 {
            return false;
        }
        let Some(news) = piece.get(known as usize..) else {
            return true;
        };
        let room = self.limit.saturating_sub(self.ready.len());
        let taken = &news[..news.len().min(room)];
        self.refused += u64::from(taken.len() < news.len());
        self.ready.extend_from_slice(taken);
        self.next = self.next.wrapping_add(taken.len() as u32);
        true
    }

    fn keep(&mut self, number: u32, piece: &[u8]) {
        let distance = number.wrapping_sub(self.next) as usize;
        let held: usize = self.waiting.iter().map(|(_, piece)| piece.len()).sum();
        let fits = distance < self.limit
            && held + piece.len() <= self.limit
            && self.waiting.len() < MAX_WAITING;
        if fits {
            self.waiting.push((number, piece.to_vec()));
        } else {
            self.refused += 1;
        }
    }

    fn take_waiting(&mut self) {
        while !self.is_full() {
            let next = self.next;
            let is_due = |(number, _): &(u32, Vec<u8>)| next.wrapping_sub(*number) <= u32::MAX / 2;
            let Some(index) = self.waiting.iter().position(is_due) else {
                break;
            };
            let (number, piece) = self.waiting.swap_remove(index);
            self.append(number, &piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_read_first_stays() {
        let mut stream = Stream::new(u32::MAX - 1, 100);
        assert!(!stream.push(3, b"fgh"));
        assert!(stream.push(u32::MAX - 1, b"abc"));
        assert!(stream.push(u32::MAX, b"XXdeYY"));
        assert_eq!(stream.ready(), b"abcdeYYh");
        stream.consume(3);
        assert_eq!(stream.ready(), b"deYYh");
    }

    #[test]
    fn memory_is_bounded_and_refusals_are_counted() {
        let mut stream = Stream::new(0, 10);
        assert!(!stream.push(5, &[1; 11]));
        assert!(!stream.push(1 << 20, &[1]));
        assert!(stream.push(0, &[0; 20]));
        assert_eq!((stream.ready().len(), stream.refused()), (10, 3));
        assert!(stream.is_full());
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_bytes(
            text in prop::collection::vec(any::<u8>(), 1..200),
            first in any::<u32>(),
            cuts in prop::collection::vec((0usize..200, 1usize..40), 0..20),
        ) {
            let mut stream = Stream::new(first, 4096);
            let whole = text.chunks(7).enumerate().map(|(index, piece)| (index * 7, piece));
            let more = cuts.iter().filter_map(|&(start, length)| {
                let end = (start + length).min(text.len());
                text.get(start..end).map(|piece| (start, piece))
            });
            let mut pieces: Vec<(usize, &[u8])> = more.chain(whole).collect();
            pieces.reverse();
            for (start, piece) in pieces {
                stream.push(first.wrapping_add(start as u32), piece);
            }
            prop_assert_eq!(stream.ready(), &text[..]);
        }
    }
}
