//! A message of a program that says which of its tools is at work.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::marks(bytes));
