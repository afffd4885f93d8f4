//! Bytes into types. Pure: no I/O, no clock, no panic on any input.

pub mod event;
pub mod process;
