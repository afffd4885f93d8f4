//! A policy together with the reviewed bases that it includes.

use crate::policy::{
    document,
    model::{Entry, Policy, Status},
};

/// How deep bases may include bases.
pub const MAX_DEPTH: usize = 16;

/// `own` with the entries of its bases after its own. Denials of either win when rules are made:
/// what a tenant denies, no base can allow.
#[must_use]
pub fn joined(own: &Policy, bases: &[Policy]) -> Policy {
    let mut entries = own.entries.clone();
    entries.extend(bases.iter().flat_map(|base| base.entries.clone()));
    Policy {
        workload: own.workload.clone(),
        include: own.include.clone(),
        entries,
    }
}

/// Those of `found` that the decisions of a base do not cover already, with what was rewritten to
/// other places than they say: a base's candidates say nothing.
#[must_use]
pub fn without_decided(found: Vec<Entry>, base: &[Entry]) -> Vec<Entry> {
    if base.is_empty() {
        return found;
    }
    let decided: Vec<&Entry> = base
        .iter()
        .filter(|entry| entry.status != Status::Candidate)
        .collect();
    found
        .into_iter()
        .filter_map(|entry| {
            let around: Vec<&Entry> = decided
                .iter()
                .filter(|known| known.to.covers(&entry.to) && known.is_for_all_of(&entry))
                .copied()
                .collect();
            document::rest(&entry, &around)
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        let head = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";
        let text = format!("{head}[[allow]]\nto = \"192.0.2.1\"\nports = [\"443/tcp\"]\n{text}");
        document::parse(&text).unwrap().entries.remove(0)
    }

    #[test]
    fn a_base_decides_on_what_it_says_and_a_denial_on_all_places() {
        let places = "translated = [\"443/tcp as asked\", \"443/tcp to 10.0.0.9:8443\"]\n";
        let found = || vec![entry(&format!("{places}status = \"candidate\"\n"))];
        let rest = |status: &str| without_decided(found(), &[entry(status)]);
        let approved = "status = \"approved\"\nreason = \"r\"\nowner = \"o\"\n\
                        expires = 2027-01-01\n";
        let [news] = &rest(approved)[..] else {
            panic!("what leaves elsewhere is no news");
        };
        let news: Vec<String> = news.translated.iter().map(ToString::to_string).collect();
        assert_eq!(news, ["443/tcp to 10.0.0.9:8443"]);
        assert!(rest("status = \"denied\"\n").is_empty());
        assert!(rest(&format!("{places}{approved}")).is_empty());
    }
}
