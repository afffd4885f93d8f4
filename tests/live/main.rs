//! The program on a live kernel, and everything that can go wrong there. Needs root; without, each
//! test is skipped. Traffic stays on loopback of network namespaces that the tests make.

#![expect(clippy::unwrap_used, reason = "a test")]

mod chosen;
mod ci;
mod clocks;
mod counting;
mod crowd;
mod daemon;
mod descriptors;
mod drift;
mod faults;
mod foreign;
mod host_rewrites;
mod hostile;
mod io_uring;
mod losses;
mod mounts;
mod own_container;
mod pins;
mod places;
mod preexisting;
mod privilege;
mod processes;
mod run;
mod secrets;
mod soak;
mod translated;
mod verifier;
mod world;
