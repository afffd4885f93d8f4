//! The compact file and the lookup in it.
//!
//! The file is lines of text, to be packed with zstd: a head, a line for each list (`list`), one for
//! each tag (`tag`), and one for each network with the numbers of its tags.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{List, Tag};

const HEAD: &str = "egress-tracer/ranges/1";

/// Published ranges, ready to be asked about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Each list's provider, date and digest.
    pub lists: BTreeSet<(String, String, String)>,
    tags: Vec<Tag>,
    /// Sorted by first address, then from wide to narrow: what covers a network stands before it.
    networks: Vec<Network>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Network {
    network: IpNet,
    /// Numbers of tags, the most telling first.
    tags: Vec<u32>,
    /// The narrowest network around it.
    parent: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    #[error("not a file of ranges that this version reads; make it with `ranges update`")]
    Head,
    #[error("line {0} makes no sense; make the file anew with `ranges update`")]
    Line(usize),
}

impl Ranges {
    /// What the lists say, each with the digest of the file that it was read from. A later list of
    /// a provider is added to an earlier one: Cloudflare's come in two files.
    #[must_use]
    pub fn new(lists: &[(List, String)]) -> Self {
        let mut tags: BTreeMap<&Tag, u32> = BTreeMap::new();
        let mut by_network: BTreeMap<IpNet, BTreeSet<&Tag>> = BTreeMap::new();
        for (network, tag) in lists.iter().flat_map(|(list, _)| &list.ranges) {
            tags.insert(tag, 0);
            by_network.entry(*network).or_default().insert(tag);
        }
        for (number, value) in (0..).zip(tags.values_mut()) {
            *value = number;
        }
        let mut networks: Vec<Network> = by_network
            .into_iter()
            .map(|(network, found)| {
                let mut found: Vec<&Tag> = found.into_iter().collect();
                found.sort_by_key(|tag| (is_general(tag), tag.region.is_empty(), *tag));
                Network {
                    network,
                    tags: found
                        .iter()
                        .filter_map(|tag| tags.get(tag).copied())
                        .collect(),
                    parent: None,
                }
            })
            .collect();
        order(&mut networks);
        let head = |(list, digest): &(List, String)| {
            let date = list.date.replace(['\t', '\n'], " ");
            (list.provider.to_owned(), date, digest.clone())
        };
        Self {
            lists: lists.iter().map(head).collect(),
            tags: tags.into_keys().cloned().collect(),
            networks,
        }
    }

    /// The tags of the narrowest range around `address`, the most telling first.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Vec<&Tag> {
        let tags = self.find(address).map(|each| each.tags.iter());
        tags.into_iter()
            .flatten()
            .filter_map(|tag| self.tags.get(*tag as usize))
            .collect()
    }

    /// The narrowest range around `address`.
    #[must_use]
    pub fn around(&self, address: IpAddr) -> Option<IpNet> {
        self.find(address).map(|each| each.network)
    }

    /// Every tag of every range around `address`, the narrowest range's first.
    #[must_use]
    pub fn all_of(&self, address: IpAddr) -> Vec<&Tag> {
        let mut tags = Vec::new();
        let mut around = self.find(address);
        while let Some(each) = around {
            let its = each.tags.iter();
            tags.extend(its.filter_map(|tag| self.tags.get(*tag as usize)));
            around = each.parent.and_then(|index| self.networks.get(index));
        }
        tags
    }

    /// What `tag` stands for, put together: sorted, and none inside another.
    #[must_use]
    pub fn networks(&self, tag: &Tag) -> Vec<IpNet> {
        let wanted: BTreeSet<usize> = self
            .tags
            .iter()
            .enumerate()
            .filter(|(_, known)| tag.stands_for(known))
            .map(|(number, _)| number)
            .collect();
        let has = |each: &&Network| {
            each.tags
                .iter()
                .any(|tag| wanted.contains(&(*tag as usize)))
        };
        let found: Vec<IpNet> = match wanted.is_empty() {
            true => Vec::new(),
            false => self
                .networks
                .iter()
                .filter(has)
                .map(|each| each.network)
                .collect(),
        };
        let mut all = IpNet::aggregate(&found);
        all.sort_by_key(|each| (each.network(), each.prefix_len()));
        all
    }

    /// Date and digest of each of a provider's files, in words.
    #[must_use]
    pub fn list_of(&self, provider: &str) -> Vec<String> {
        let its = self.lists.iter().filter(|(whose, ..)| whose == provider);
        its.map(|(_, date, digest)| format!("{date} sha256:{digest}").trim().to_owned())
            .collect()
    }

    fn find(&self, address: IpAddr) -> Option<&Network> {
        let address = address.to_canonical();
        let after = self
            .networks
            .partition_point(|each| each.network.network() <= address);
        let mut at = after.checked_sub(1);
        while let Some(each) = at.and_then(|index| self.networks.get(index)) {
            if each.network.contains(&address) {
                return Some(each);
            }
            at = each.parent;
        }
        None
    }

    /// How many networks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for (provider, date, digest) in &self.lists {
            text += &format!("list\t{provider}\t{date}\t{digest}\n");
        }
        for tag in &self.tags {
            text += &format!("tag\t{}\t{}\t{}\n", tag.provider, tag.service, tag.region);
        }
        for each in &self.networks {
            let tags: Vec<String> = each.tags.iter().map(ToString::to_string).collect();
            text += &format!("{}\t{}\n", each.network, tags.join(" "));
        }
        text
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, RangesError> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(RangesError::Head);
        }
        let mut ranges = Self::default();
        for (at, line) in lines {
            ranges.line(line).ok_or(RangesError::Line(at + 1))?;
        }
        order(&mut ranges.networks);
        Ok(ranges)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        match *fields.as_slice() {
            ["list", provider, date, digest] => {
                let list = [provider, date, digest].map(str::to_owned);
                let [provider, date, digest] = list;
                self.lists.insert((provider, date, digest));
            }
            ["tag", provider, service, region] => {
                let [provider, service, region] = [provider, service, region].map(str::to_owned);
                self.tags.push(Tag {
                    provider,
                    service,
                    region,
                });
            }
            [network, tags] => {
                let number = |tag: &str| {
                    let number: u32 = tag.parse().ok()?;
                    ((number as usize) < self.tags.len()).then_some(number)
                };
                let tags = tags.split(' ').map(number).collect::<Option<Vec<u32>>>()?;
                self.networks.push(Network {
                    network: network.parse().ok()?,
                    tags,
                    parent: None,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether a tag says little more than whose the address is.
fn is_general(tag: &Tag) -> bool {
    const GENERAL: [&str; 5] = ["", "AMAZON", "AzureCloud", "Google-Cloud", "OCI"];
    GENERAL.contains(&tag.service.as_str())
}

/// Sorts, and finds what is around each.
fn order(networks: &mut [Network]) {
    networks.sort_by_key(|each| (each.network.network(), each.network.prefix_len()));
    let mut around: Vec<usize> = Vec::new();
    for index in 0..networks.len() {
        let network = networks[index].network;
        while around
            .last()
            .is_some_and(|outer| !networks[*outer].network.contains(&network))
        {
            around.pop();
        }
        networks[index].parent = around.last().copied();
        around.push(index);
    }
}
