//! Bytes into types. Pure: no I/O, no clock, no panic on any input, bounded memory.
//!
//! What a peer says about itself on the wire (`dns`, `tls`, `quic`, `http`, `socks`, and
//! `first_bytes`, which tells them apart) serves the live half and imported captures alike;
//! `event`, `process`, `socket_name` and `wire` are the kernel half's own language, `marker` that of
//! programs that say which of their tools is at work.

pub mod dns;
#[cfg(feature = "rings")]
pub mod event;
pub mod first_bytes;
pub mod http;
#[cfg(feature = "rings")]
pub mod marker;
pub mod name;
#[cfg(feature = "rings")]
pub mod process;
#[cfg(test)]
mod properties;
pub mod quic;
pub mod reached;
#[cfg(feature = "capture")]
pub mod socket_name;
pub mod socks;
pub mod stream;
pub mod tls;
#[cfg(feature = "rings")]
pub mod wire;

/// What a decoder makes of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    Done(T),
    /// It may be what it looks like: more bytes will tell.
    More,
    /// It is something else, or broken beyond use.
    No,
}
