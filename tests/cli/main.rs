//! The real binary, from the outside: what it reads, writes, says and how it exits.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod by_process;
mod by_tool;
mod captures;
mod completeness;
mod coverage;
mod crash;
mod decisions;
mod drift;
mod findings;
mod hostile;
mod in_force;
mod merging;
mod names;
mod outputs;
mod progress;
mod ranges;
mod render;
mod replay;
mod report;
mod review;
mod rules;
mod spans;
mod tools;
mod verify;
mod ways_out;
mod workloads;
mod world;
