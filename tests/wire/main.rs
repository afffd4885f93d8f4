//! Names as the workload saw and said them, from the kernel to the log: real resolvers, real
//! clients, in a little internet of the test's own.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod belief;
mod clients;
mod connections;
mod containers;
mod dns;
mod resolvers;
mod world;
