//! The real binary, from the outside: what it reads, writes, says and how it exits.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod completeness;
mod decisions;
mod drift;
mod hostile;
mod outputs;
mod ranges;
mod render;
mod review;
mod workloads;
mod world;
