//! The first bytes of a connection: proxies, HTTP, TLS.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::first_bytes(bytes));
