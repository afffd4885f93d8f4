//! A whole file, packed or not, from recognising it to its candidates.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::file(bytes));
