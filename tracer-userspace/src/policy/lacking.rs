//! Hooks that the recording kernels lacked, for one line at the head of what is made of a log.

use std::collections::BTreeMap;

/// Named of the hooks, and kept of a name: both come out of a log.
const SHOWN: usize = 16;
const MAX_NAME: usize = 32;

/// The hooks' names; `None` where nothing is missing.
#[must_use]
pub fn names(missing: &BTreeMap<String, String>) -> Option<String> {
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let name = |hook: &String| {
        hook.chars()
            .take(MAX_NAME)
            .filter(plain)
            .collect::<String>()
    };
    let shown: Vec<String> = missing.keys().take(SHOWN).map(name).collect();
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}
