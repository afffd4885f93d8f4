//! `Metered`: a reader that tells whoever looks on how far it is.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A reader that tells how far it is.
pub(super) struct Metered {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) read: Arc<AtomicU64>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
