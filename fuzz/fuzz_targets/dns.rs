//! A DNS message, alone and in a stream.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::dns(bytes));
