//! `policy approve --expand`: the published ranges around candidates, instead of their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::bail;
use ipnet::IpNet;

use super::Common;
use crate::{
    analysis::{risk::Subject, summary::Summaries},
    commands::policy_file::PolicyFile,
    output::terminal,
    policy::{
        decision::Decision,
        document,
        model::{Entry, Service, Status, Target},
        selector,
    },
    ranges::Ranges,
};

/// What is to be approved in place of some candidates.
struct Range {
    network: IpNet,
    /// Whose it is, by which list.
    origin: String,
    ports: BTreeSet<Service>,
    replaced: BTreeSet<usize>,
}

/// The policy's text with the narrowest published range around each chosen candidate approved, and
/// the candidates gone.
pub(super) fn write(
    file: &PolicyFile,
    numbers: &[usize],
    decision: &Decision,
    common: &Common,
) -> anyhow::Result<String> {
    let ranges = ranges(file, numbers, &common.load_ranges()?)?;
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let mut text = file.text.clone();
    let mut replaced = BTreeSet::new();
    for (place, range) in (file.policy.entries.len()..).zip(ranges) {
        let ports = range.ports.iter().cloned().collect();
        let entry = Entry::candidate(Target::Network(range.network), ports);
        let seen = summaries.as_ref().and_then(|all| all.of(&entry));
        let subject = Subject {
            entry: &entry,
            seen: seen.as_ref(),
            limits: common.limits(),
        };
        let seen = seen.as_ref().map_or(0, |seen| seen.addresses.len());
        tell(&range, seen);
        let findings = decision.about(&subject)?;
        let decision = Decision {
            reference: decision.reference.clone().or(Some(range.origin)),
            ..decision.clone()
        };
        text = document::add(&text, &entry)?;
        text = document::decide(&text, &[(place, findings)], &decision)?;
        replaced.extend(range.replaced);
    }
    Ok(document::remove(&text, &replaced)?)
}

fn ranges(file: &PolicyFile, numbers: &[usize], published: &Ranges) -> anyhow::Result<Vec<Range>> {
    let mut found: BTreeMap<IpNet, Range> = BTreeMap::new();
    for &index in numbers {
        let entry = &file.policy.entries[index];
        let name = selector::name_of(&file.policy, index);
        let Target::Address(address) = entry.to else {
            bail!("{name} is no address, and cannot be expanded");
        };
        if entry.status != Status::Candidate
            || entry.tools.is_some()
            || !entry.translated.is_empty()
        {
            bail!(
                "{name} is decided on, for a tool, or rewritten: only plain candidates are expanded"
            );
        }
        let Some(network) = published.around(address) else {
            bail!("{name} is in no published range (--ranges names the file of `ranges update`)");
        };
        let known = file
            .policy
            .entries
            .iter()
            .any(|entry| entry.to == Target::Network(network));
        if known {
            bail!("{network}, which is published around {name}, stands in the policy already");
        }
        let range = found.entry(network).or_insert_with(|| Range {
            network,
            origin: origin(published, address),
            ports: BTreeSet::new(),
            replaced: BTreeSet::new(),
        });
        range.ports.extend(entry.ports.iter().cloned());
        range.replaced.insert(index);
    }
    Ok(found.into_values().collect())
}

/// The most telling tag, with the date and the digest of the list that it is from.
fn origin(published: &Ranges, address: IpAddr) -> String {
    let tags = published.of(address);
    let Some(tag) = tags.first() else {
        return String::new();
    };
    let list = published
        .lists
        .iter()
        .find(|(provider, ..)| *provider == tag.provider);
    match list {
        Some((_, date, digest)) => format!("{tag}, list of {date}, sha256 {digest}"),
        None => tag.to_string(),
    }
}

/// Before the approval, which may be refused for it.
fn tell(range: &Range, seen: usize) {
    let Range {
        network, origin, ..
    } = range;
    let bits = network.max_prefix_len() - network.prefix_len();
    let opened = 2_f64.powi(i32::from(bits));
    terminal::tell(&format!(
        "{network} ({origin}): opens {opened} address(es), {seen} of them seen"
    ));
}
