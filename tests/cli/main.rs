//! The real binary, from the outside: what it reads, writes, says and how it exits.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod captures;
mod completeness;
mod hostile;
mod outputs;
mod workloads;
mod world;
