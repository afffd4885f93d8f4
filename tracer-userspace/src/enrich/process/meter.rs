//! Bytes in use, counted where they are taken and given back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many bytes are in use. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

/// Bytes that are in use for as long as this lives.
#[derive(Debug)]
pub struct Metered {
    meter: Meter,
    bytes: usize,
}

impl Meter {
    /// Counts `bytes` until the result is dropped.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Metered {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Metered {
            meter: self.clone(),
            bytes,
        }
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
