//! What leaves the program: files, whole or not at all, and words for a terminal.

pub mod diagnostics;
pub mod files;
#[cfg(feature = "capture")]
pub mod log;
pub mod original;
pub mod terminal;
#[cfg(feature = "capture")]
pub mod webhook;
