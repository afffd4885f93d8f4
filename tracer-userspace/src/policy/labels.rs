//! What a destination is there for, or whose it is, in words: for whoever decides about it.

use std::collections::BTreeSet;

use crate::record::Role;

/// How many an entry is written with.
pub const MOST: usize = 8;

/// The role's word, and `container NAME` for each other container that had the address.
#[must_use]
pub fn labels<'a>(role: Option<Role>, peers: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut labels: BTreeSet<String> = peers.map(|name| format!("container {name}")).collect();
    // The name says more than the word alone.
    let is_named = role == Some(Role::Container) && !labels.is_empty();
    let word = role.filter(|_| !is_named).map(Role::word);
    labels.extend(word.map(str::to_owned));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(role: Option<Role>, peers: &[&str]) -> Vec<String> {
        labels(role, peers.iter().copied()).into_iter().collect()
    }

    #[test]
    fn a_name_says_more_than_a_word() {
        assert_eq!(all(None, &[]), [""; 0]);
        assert_eq!(all(Some(Role::Ntp), &[]), ["ntp"]);
        assert_eq!(all(Some(Role::PublicResolver), &[]), ["public-resolver"]);
        assert_eq!(all(Some(Role::Container), &[]), ["container"]);
        assert_eq!(all(Some(Role::Container), &["db"]), ["container db"]);
        let both = all(Some(Role::Resolver), &["dns"]);
        assert_eq!(both, ["container dns", "resolver"]);
    }
}
