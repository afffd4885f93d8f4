//! What the daemon keeps of root's power once it has begun.
//!
//! | file | defines |
//! |---|---|
//! | `capabilities` | those that recording needs |
//! | `calls` | the system calls that it needs |
//! | `places` | where it writes |
//! | `outside` | the one thread that may look where the others may not |
//!
//! `run` keeps all: what it starts is to have what its user has.

pub mod calls;
pub mod capabilities;
pub mod outside;
pub mod places;
#[cfg(test)]
mod tests;

use std::path::Path;

/// Gives up what recording does not need: capabilities, system calls, and writing anywhere but below
/// `directories`. To be called before any other thread is there, and before anything that a workload
/// has said is read. What this kernel lacks is told and gone without.
pub fn give_up(directories: &[&Path]) {
    if let Err(error) = capabilities::give_up_the_rest() {
        tracing::warn!("capabilities that are not needed are kept: {error}");
    }
    match outside::stay() {
        Ok(()) => stay_in(directories),
        Err(error) => tracing::warn!("the daemon may write anywhere: {error}"),
    }
    if let Err(error) = calls::allow_needed() {
        tracing::warn!("every system call stays allowed: {error}");
    }
}

fn stay_in(directories: &[&Path]) {
    match places::write_only_below(directories) {
        Ok(true) => {}
        Ok(false) => tracing::info!("the daemon may write anywhere: this kernel has no Landlock"),
        Err(error) => tracing::warn!("the daemon may write anywhere: {error}"),
    }
}

/// Every program is loaded: none may be any more.
pub fn load_no_more() {
    if let Err(error) = calls::load_no_more() {
        tracing::warn!("programs can still be loaded: {error}");
    }
}
