//! `policy approve --expand`: the published ranges around candidates, instead of their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Judging, decide};
use crate::{
    analysis::summary::Summaries,
    commands::policy_file::PolicyFile,
    output::terminal,
    policy::{
        decision::Decision,
        document,
        model::{Entry, Service, Status, Target},
        published::Published,
        selector,
    },
    ranges::Ranges,
};
use anyhow::bail;

/// What is to be approved in place of some candidates.
struct Range {
    to: Target,
    /// Whose it is, by which list.
    origin: String,
    ports: BTreeSet<Service>,
    replaced: BTreeSet<usize>,
}

/// The policy's text with the tag approved that opens least around each chosen candidate, and the
/// candidates gone.
pub(super) fn write_tags(
    file: &PolicyFile,
    numbers: &[usize],
    decision: &Decision,
    judging: &Judging,
) -> anyhow::Result<String> {
    write(file, numbers, decision, judging, least)
}

/// The same with the narrowest published network around each.
pub(super) fn write_networks(
    file: &PolicyFile,
    numbers: &[usize],
    decision: &Decision,
    judging: &Judging,
) -> anyhow::Result<String> {
    write(file, numbers, decision, judging, narrowest)
}

/// What is published around an address.
type Around = fn(&Ranges, IpAddr) -> Option<Target>;

fn least(published: &Ranges, address: IpAddr) -> Option<Target> {
    let tags = published.all_of(address).into_iter();
    let ranges = tags.map(|tag| Target::Published(Published::looked_up(tag.clone(), published)));
    ranges.min_by_key(Target::addresses)
}

fn narrowest(published: &Ranges, address: IpAddr) -> Option<Target> {
    published.around(address).map(Target::Network)
}

fn write(
    file: &PolicyFile,
    numbers: &[usize],
    decision: &Decision,
    judging: &Judging,
    around: Around,
) -> anyhow::Result<String> {
    let ranges = ranges(file, numbers, &judging.ranges, around)?;
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let mut policy = file.policy.clone();
    let mut text = file.text.clone();
    let mut replaced = BTreeSet::new();
    for range in ranges {
        let ports = range.ports.iter().cloned().collect();
        let entry = Entry::candidate(range.to.clone(), ports);
        let seen = summaries.as_ref().and_then(|all| all.of(&entry));
        let subject = judging.subject(&entry, seen.as_ref());
        tell(&range, seen.as_ref().map_or(0, |seen| seen.addresses.len()));
        let findings = decision.about(&subject)?;
        let decision = Decision {
            reference: decision.reference.clone().or(Some(range.origin)),
            ..decision.clone()
        };
        text = document::add(&text, &entry)?;
        let place = policy.entries.len();
        policy.entries.push(entry);
        text = decide::with_widths(&text, &policy, &[place], decision.ruling, judging)?;
        text = document::decide(&text, &[(place, findings)], &decision)?;
        replaced.extend(range.replaced);
    }
    Ok(document::remove(&text, &replaced)?)
}

fn ranges(
    file: &PolicyFile,
    numbers: &[usize],
    published: &Ranges,
    around: Around,
) -> anyhow::Result<Vec<Range>> {
    let mut found: BTreeMap<Target, Range> = BTreeMap::new();
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
        let Some(to) = around(published, address) else {
            bail!("{name} is in no published range (--ranges names the file of `ranges update`)");
        };
        if file.policy.entries.iter().any(|entry| entry.to == to) {
            bail!("{to}, which is published around {name}, stands in the policy already");
        }
        let range = found.entry(to.clone()).or_insert_with(|| Range {
            to,
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
    match published.of(address).first() {
        Some(tag) => format!(
            "{tag}, list of {}",
            published.list_of(&tag.provider).join(", ")
        ),
        None => String::new(),
    }
}

/// Before the approval, which may be refused for it.
fn tell(range: &Range, seen: usize) {
    let Range { to, origin, .. } = range;
    let opened = to.addresses();
    let networks = to.networks().len();
    terminal::tell(&format!(
        "{to} ({origin}): opens {opened} address(es) in {networks} network(s), {seen} of them seen"
    ));
}
