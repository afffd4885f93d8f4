//! The real binary, from the outside: what it reads, writes, says and how it exits.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod captures;
mod completeness;
mod coverage;
mod hostile;
mod merging;
mod outputs;
mod replay;
mod rules;
mod workloads;
mod world;
