//! An event of any of the kernel's rings.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::rings(bytes));
