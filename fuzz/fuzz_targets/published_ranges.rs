//! A cloud's published list of prefixes, and our table of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::published_ranges(bytes));
