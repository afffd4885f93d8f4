//! A packet capture: pcap or pcapng.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracer_userspace::fuzzing::capture(bytes));
