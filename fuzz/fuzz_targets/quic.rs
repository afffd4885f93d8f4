//! Datagrams of QUIC, each with its length before it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::quic(bytes));
