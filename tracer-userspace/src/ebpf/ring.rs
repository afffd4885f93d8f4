//! The ring buffers' news.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// How many events are taken out at a time, so that a storm cannot fill memory.
const BATCH: usize = 4096;

/// The same in bytes, for events that are long.
pub const BATCH_BYTES: usize = 256 << 10;

/// The reading end of a ring buffer of `E`.
pub struct Ring<E> {
    fd: AsyncFd<RingBuf<MapData>>,
    decode: fn(&[u8]) -> Option<E>,
    /// Events that could not be decoded, ever.
    undecodable: u64,
}

impl<E> Ring<E> {
    /// Registers the ring with the running tokio reactor.
    ///
    /// # Errors
    /// What epoll says.
    pub fn new(ring: RingBuf<MapData>, decode: fn(&[u8]) -> Option<E>) -> io::Result<Self> {
        // SAFETY: the ring owns its map, whose descriptor stays open and the same until the ring is
        // dropped, and that is together with the registration.
        let fd = unsafe { AsyncFd::register(ring)? };
        Ok(Self {
            fd,
            decode,
            undecodable: 0,
        })
    }

    /// Waits until the kernel wakes the reader.
    ///
    /// # Errors
    /// What epoll says.
    pub async fn woken(&self) -> io::Result<()> {
        self.fd.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes out what is there, at most a batch. `keep` sees each event and its bytes before it
    /// leaves the ring: whoever dies meanwhile, the next reader finds it there again.
    pub fn take(&mut self, mut keep: impl FnMut(&E, &[u8])) -> Vec<E> {
        let mut events = Vec::new();
        let mut bytes = 0;
        let ring = self.fd.get_mut();
        while events.len() < BATCH && bytes < BATCH_BYTES {
            let Some(item) = ring.next() else { break };
            bytes += item.len();
            match (self.decode)(&item) {
                Some(event) => {
                    keep(&event, &item);
                    events.push(event);
                }
                None => self.undecodable += 1,
            }
        }
        events
    }

    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}
