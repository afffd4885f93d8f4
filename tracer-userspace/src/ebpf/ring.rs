//! The ring buffer's news.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use crate::decode::event::{Event, decode};

/// How many events are taken out at a time, so that a storm cannot fill memory.
const BATCH: usize = 4096;

/// The reading end of the ring buffer.
pub struct Ring {
    fd: AsyncFd<RingBuf<MapData>>,
    /// Events that could not be decoded, ever.
    undecodable: u64,
}

impl Ring {
    /// Registers the ring with the running tokio reactor.
    ///
    /// # Errors
    /// What epoll says.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring owns its map, whose descriptor stays open and the same until the ring is
        // dropped, and that is together with the registration.
        let fd = unsafe { AsyncFd::register(ring)? };
        Ok(Self { fd, undecodable: 0 })
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
    pub fn take(&mut self, mut keep: impl FnMut(&Event, &[u8])) -> Vec<Event> {
        let mut events = Vec::new();
        let ring = self.fd.get_mut();
        while events.len() < BATCH {
            let Some(item) = ring.next() else { break };
            match decode(&item) {
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
