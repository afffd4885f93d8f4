//! `generate --expand`: published ranges that are to stand for the addresses in them.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::bail;
use ipnet::IpNet;

use crate::{
    output::terminal,
    policy::{Observations, model::Target, published::Published},
    ranges::{Ranges, Tag},
};

/// The ranges of these tags.
pub(super) fn ranges(tags: &[Tag], published: &Ranges) -> anyhow::Result<Vec<Published>> {
    let mut found = Vec::with_capacity(tags.len());
    for tag in tags {
        let range = Published::looked_up(tag.clone(), published);
        if range.networks().is_empty() {
            bail!(
                "{tag} is in no published list at hand (--ranges names the file of `ranges update`)"
            );
        }
        found.push(range);
    }
    Ok(found)
}

/// Nothing is opened in silence: says of each how wide it is, and how much of it was seen.
pub(super) fn tell(ranges: &[Published], observed: &[Observations]) {
    for range in ranges {
        let inside: BTreeSet<IpAddr> = observed
            .iter()
            .flat_map(Observations::destinations)
            .map(|(destination, _)| destination.ip)
            .filter(|ip| range.contains(&IpNet::from(*ip)))
            .collect();
        let to = Target::Published(range.clone());
        let (opened, networks, seen) = (to.addresses(), range.networks().len(), inside.len());
        let list = range.list().join(", ");
        terminal::tell(&format!(
            "{to} (list of {list}): opens {opened} address(es) in {networks} network(s), {seen} of \
             them seen"
        ));
    }
}
