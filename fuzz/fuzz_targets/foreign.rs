//! Somebody else's list in force.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::foreign_list(bytes));
