//! Processes by the thousand, in real containers and out of hand. Needs root; without, each test
//! is skipped. Each test has the machine for itself.

#![expect(clippy::unwrap_used, reason = "a test")]

mod bomb;
mod containers;
