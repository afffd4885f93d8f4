//! Every way out of a process, from a real program that uses it to the log: how it left, which way
//! round it was, and what became of it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod answers;
mod channels;
mod direction;
mod outcomes;
mod places;
mod quantity;
mod sockets;
mod world;
