//! Which process sent, what it ran at that moment, and who had started it.
//!
//! The kernel tells of every fork, exec and exit; `/proc` is asked about what ran before, and
//! about what those events could not tell.
//!
//! | file | defines |
//! |---|---|
//! | [`table`] | every process that may still have sent something |
//! | [`retention`] | which of them to forget first, and when |
//! | [`image`] | what a process runs |
//! | [`lineage`] | who started whom |
//! | [`proc`] | the same out of `/proc` |
//! | [`secrets`] | what of that must not be kept |
//! | [`meter`] | bytes that all of these take |

pub mod image;
pub mod lineage;
pub mod meter;
pub mod proc;
pub mod retention;
mod secrets;
pub mod table;

pub use crate::decode::process::ProcessId;
