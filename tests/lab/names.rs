//! Names for what the lab makes: unique on the machine, and telling whose they are.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// `PREFIX` and this process's id, the first part of every name.
const PREFIX: &str = "lab";

/// A name nobody else on this machine uses: `lab-<pid>-<n>-<stem>`.
#[must_use]
pub fn unique(stem: &str) -> String {
    let pid = std::process::id();
    let n = next();
    format!("{PREFIX}-{pid}-{n}-{stem}")
}

/// A name for a network interface, which has room for 15 bytes.
pub(crate) fn interface() -> String {
    let pid = std::process::id();
    let n = next();
    format!("lab{pid:x}n{n:x}")
}

/// A number used once in this process.
pub(crate) fn next() -> u32 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// Whether `name` was made by [`unique`] in a process that has ended since.
pub(crate) fn is_abandoned(name: &str) -> bool {
    let mut parts = name.split('-');
    let ours = parts.next() == Some(PREFIX);
    let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
    ours && pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_not_abandoned() {
        let (one, two) = (unique("x"), unique("x"));
        assert_ne!(one, two);
        assert!(!is_abandoned(&one));
    }

    #[test]
    fn only_a_dead_process_abandons() {
        // Process ids end at 2^22.
        assert!(is_abandoned("lab-4999999-0-x"));
        assert!(!is_abandoned("somebody-4999999-0-x"));
        assert!(!is_abandoned("lab"));
    }
}
