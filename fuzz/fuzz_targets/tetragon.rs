//! A line of Tetragon's.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::tetragon(bytes));
