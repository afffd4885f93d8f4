//! Published ranges in a policy: a tag stays a tag, and what it stands for is looked up in the list
//! at hand whenever somebody asks.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use ipnet::IpNet;
use jiff::civil::Date;

use crate::{
    policy::model::{Entry, Policy, Status, Target},
    ranges::{Ranges, Tag},
};

/// A tag such as `aws:S3:us-east-1`, and what the list at hand says of it. Two are the same if
/// their tags are, whatever was looked up.
#[derive(Clone, Debug)]
pub struct Published {
    pub tag: Tag,
    /// Sorted, and none inside another; empty if no list at hand has the tag.
    networks: Vec<IpNet>,
    /// The lists that say so: date and digest of each file.
    list: Vec<String>,
}

impl Published {
    /// The tag, with what `ranges` says of it.
    #[must_use]
    pub fn looked_up(tag: Tag, ranges: &Ranges) -> Self {
        let networks = ranges.networks(&tag);
        let list = match networks.is_empty() {
            true => Vec::new(),
            false => ranges.list_of(&tag.provider),
        };
        Self {
            tag,
            networks,
            list,
        }
    }

    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Date and digest of each file that it was looked up in.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.list
    }

    /// Whether all of `network` is in the range.
    #[must_use]
    pub fn contains(&self, network: &IpNet) -> bool {
        let first = network.network();
        let after = self
            .networks
            .partition_point(|each| each.network() <= first);
        let before = after.checked_sub(1).and_then(|at| self.networks.get(at));
        before.is_some_and(|each| each.contains(network))
    }
}

impl From<Tag> for Published {
    /// Nothing is looked up yet.
    fn from(tag: Tag) -> Self {
        Self {
            tag,
            networks: Vec::new(),
            list: Vec::new(),
        }
    }
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag
    }
}

impl Eq for Published {}

impl Hash for Published {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tag.hash(state);
    }
}

impl Ord for Published {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tag.cmp(&other.tag)
    }
}

impl PartialOrd for Published {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Policy {
    /// Whether an entry is about a published range.
    #[must_use]
    pub fn has_ranges(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| matches!(entry.to, Target::Published(_)))
    }

    /// Looks the published ranges of all entries up.
    pub fn look_up(&mut self, ranges: &Ranges) {
        for entry in &mut self.entries {
            if let Target::Published(range) = &mut entry.to {
                *range = Published::looked_up(range.tag.clone(), ranges);
            }
        }
    }
}

impl Entry {
    /// Whether what it opens is known, and no more than was approved. Anything but a published
    /// range opens always the same.
    #[must_use]
    pub fn is_as_approved(&self) -> bool {
        let Target::Published(range) = &self.to else {
            return true;
        };
        let is_within = |most| self.to.addresses() <= u128::from(most);
        !range.networks.is_empty() && self.at_most.is_some_and(is_within)
    }
}

/// What somebody should know about the published ranges that `policy` speaks of: those that cannot
/// be looked up, that another list was looked up in than when they were decided on, or that have
/// outgrown their approval. One sentence each.
#[must_use]
pub fn notes(policy: &Policy, today: Date) -> Vec<String> {
    let decided = policy.entries.iter();
    let decided = decided.filter(|entry| entry.status != Status::Candidate);
    decided.filter_map(|entry| note(entry, today)).collect()
}

fn note(entry: &Entry, today: Date) -> Option<String> {
    let Target::Published(range) = &entry.to else {
        return None;
    };
    if entry.has_expired(today) {
        return None;
    }
    let (tag, now) = (&range.tag, entry.to.addresses());
    if range.networks.is_empty() {
        return Some(format!(
            "{tag} is {}, and no ranges file says what that is: it stands for nothing \
             (--ranges names the file of `ranges update`)",
            entry.status.word()
        ));
    }
    if entry.status == Status::Approved && !entry.is_as_approved() {
        let most = entry.at_most.unwrap_or(0);
        return Some(format!(
            "{tag} opens {now} address(es) by the ranges file, and at most {most} are approved: it \
             is not in force until it is approved again"
        ));
    }
    let is_other = !entry.list.is_empty() && entry.list != range.list;
    is_other.then(|| {
        format!(
            "{tag} was {} by another list ({}) than the ranges file has ({}): it stands for {now} \
             address(es) now",
            entry.status.word(),
            entry.list.join(", "),
            range.list.join(", ")
        )
    })
}

/// `found` with one candidate for each of `tags` in place of the candidates for addresses in it.
/// What is rewritten on its way keeps an entry of its own.
#[must_use]
pub fn expand(found: Vec<Entry>, tags: &[Published]) -> Vec<Entry> {
    let mut rest = found;
    let mut made = Vec::new();
    for range in tags {
        let is_inside = |entry: &Entry| match entry.to {
            Target::Address(address) => {
                entry.translated.is_empty()
                    && entry.tools.is_none()
                    && range.contains(&IpNet::from(address))
            }
            Target::Network(_) | Target::Published(_) | Target::Name(_) | Target::Wildcard(_) => {
                false
            }
        };
        let (inside, outside): (Vec<Entry>, Vec<Entry>) = rest.into_iter().partition(is_inside);
        rest = outside;
        let mut ports: Vec<_> = inside.into_iter().flat_map(|entry| entry.ports).collect();
        ports.sort_unstable();
        ports.dedup();
        if !ports.is_empty() {
            made.push(Entry::candidate(Target::Published(range.clone()), ports));
        }
    }
    rest.extend(made);
    rest.sort_by(|one, other| one.to.cmp(&other.to));
    rest
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::{policy::document, ranges};

    /// One service in two regions.
    fn ranges(east: &[&str]) -> Ranges {
        let prefix = |network: &&str, region: &str| {
            format!("{{\"ip_prefix\":\"{network}\",\"region\":\"{region}\",\"service\":\"S3\"}}")
        };
        let mut all: Vec<String> = east.iter().map(|each| prefix(each, "us-east-1")).collect();
        all.push(prefix(&"198.51.100.0/24", "eu-west-1"));
        let all = all.join(",");
        let text =
            format!("{{\"createDate\":\"today\",\"prefixes\":[{all}],\"ipv6_prefixes\":[]}}");
        Ranges::new(&[(ranges::read(&text).unwrap(), format!("{:x}", text.len()))])
    }

    fn policy(at_most: u64, list: &str) -> Policy {
        let text = format!(
            "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n[[allow]]\n\
             to = \"aws:S3:us-east-1\"\nports = [\"443/tcp\"]\nstatus = \"approved\"\n\
             reason = \"r\"\nowner = \"o\"\nexpires = 2027-01-01\nlist = [\"{list}\"]\n\
             at_most = {at_most}\n"
        );
        document::parse(&text).unwrap()
    }

    #[test]
    fn a_tag_stands_for_what_the_list_at_hand_says() {
        let mut policy = policy(256, "x");
        let inside: Target = "192.0.2.7".parse().unwrap();
        assert!(!policy.entries[0].to.covers(&inside));
        policy.look_up(&ranges(&["192.0.2.0/25", "192.0.2.128/25"]));
        let to = &policy.entries[0].to;
        assert_eq!(to.networks(), ["192.0.2.0/24".parse().unwrap()]);
        assert!(to.covers(&inside) && to.covers(&"192.0.2.0/24".parse().unwrap()));
        for outside in ["198.51.100.1", "192.0.0.0/16", "2001:db8::1", "a.example"] {
            assert!(!to.covers(&outside.parse().unwrap()), "{outside}");
        }
        let all: Target = "aws:S3".parse().unwrap();
        let Target::Published(all) = all else {
            panic!("a tag is read as something else");
        };
        let both = Published::looked_up(all.tag, &ranges(&["192.0.2.0/24"]));
        assert_eq!(both.networks().len(), 2);
    }

    #[test]
    fn an_approval_does_not_grow_past_what_was_approved() {
        let today = jiff::civil::date(2026, 11, 22);
        let mut policy = policy(256, "today sha256:1");
        let in_force = |policy: &Policy| policy.entries[0].is_in_force(today);
        assert!(!in_force(&policy));
        assert!(notes(&policy, today)[0].contains("stands for nothing"));
        policy.look_up(&ranges(&["192.0.2.0/24"]));
        assert!(in_force(&policy));
        assert!(notes(&policy, today)[0].contains("another list"));
        policy.look_up(&ranges(&["192.0.2.0/24", "203.0.113.0/32"]));
        assert!(!in_force(&policy));
        let told = notes(&policy, today);
        assert!(told[0].contains("opens 257 address(es)"), "{told:?}");
    }

    #[test]
    fn candidates_inside_are_put_together() {
        let candidate = |to: &str, port: &str| {
            Entry::candidate(to.parse().unwrap(), vec![port.parse().unwrap()])
        };
        let found = vec![
            candidate("192.0.2.1", "443/tcp"),
            candidate("192.0.2.2", "80/tcp"),
            candidate("203.0.113.1", "443/tcp"),
            candidate("a.example", "443/tcp"),
        ];
        let tag: Tag = "aws:S3:us-east-1".parse().unwrap();
        let range = Published::looked_up(tag, &ranges(&["192.0.2.0/24"]));
        let made = expand(found.clone(), std::slice::from_ref(&range));
        let told: Vec<String> = made.iter().map(|entry| entry.to.to_string()).collect();
        assert_eq!(told, ["203.0.113.1", "aws:S3:us-east-1", "a.example"]);
        assert_eq!(made[1].ports.len(), 2);
        assert_eq!(expand(found[2..].to_vec(), &[range]).len(), 2);
    }
}
