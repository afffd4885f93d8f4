//! Fewer and wider rules, on request, and how wide each rule is.
//!
//! Nothing is widened in silence: a rule for more than one address says in its comment how many of
//! them were seen, and [`Breadth`] sums it up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use ipnet::IpNet;
use jiff::civil::Date;

use crate::{
    policy::{denials::without, model::Service},
    render::{Denied, Rule, RuleSet, ToolRules},
};

/// IPv4 prefixes are at most this long; longer ones are IPv6.
const V4_BITS: u8 = 32;

/// One way to merge rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Into the fewest networks that hold precisely the same addresses.
    Exact,
    /// A whole network of this prefix length, where at least `hosts` single addresses of it were
    /// seen with the same service. Up to 32 it is about IPv4, above about IPv6.
    Prefix { bits: u8, hosts: usize },
}

/// Why a text is no way to merge rules.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?}: expected exact, or /BITS:HOSTS such as /24:8 (IPv4) or /64:8 (IPv6) for the networks of \
     which at least that many addresses were seen"
)]
pub struct BadAggregate(String);

impl FromStr for Aggregate {
    type Err = BadAggregate;

    fn from_str(text: &str) -> Result<Self, BadAggregate> {
        let bad = || BadAggregate(text.to_owned());
        if text == "exact" {
            return Ok(Self::Exact);
        }
        let (bits, hosts) = text
            .strip_prefix('/')
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(bad)?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        let hosts: usize = hosts.parse().map_err(|_| bad())?;
        // 0 bits would be everything; one host is no reason to open a network.
        let sound = (1..=128).contains(&bits) && hosts >= 2;
        sound
            .then_some(Self::Prefix { bits, hosts })
            .ok_or_else(bad)
    }
}

/// The rules merged in every way asked for, one after the other. Only what holds equally long is
/// merged: a wider rule outlives none of those that it takes the place of.
#[must_use]
pub fn aggregate(rules: RuleSet, ways: &[Aggregate]) -> RuleSet {
    let mut merged = ways.iter().fold(rules, |rules, way| {
        let mut alike: BTreeMap<(Service, Option<Date>), Vec<Rule>> = BTreeMap::new();
        for rule in rules.rules {
            let key = (rule.service.clone(), rule.expires);
            alike.entry(key).or_default().push(rule);
        }
        let mut merged: Vec<Rule> = alike
            .into_iter()
            .flat_map(|((service, _), group)| match *way {
                Aggregate::Exact => exact(&service, &group),
                Aggregate::Prefix { bits, hosts } => {
                    prefixes(&service, &group, &rules.denied, bits, hosts)
                }
            })
            .collect();
        merged.sort();
        RuleSet {
            rules: merged,
            ..rules
        }
    });
    let each = |ToolRules { tool, set }| ToolRules {
        tool,
        set: aggregate(set, ways),
    };
    merged.tools = std::mem::take(&mut merged.tools)
        .into_iter()
        .map(each)
        .collect();
    merged
}

fn exact(service: &Service, group: &[Rule]) -> Vec<Rule> {
    let networks: Vec<IpNet> = group.iter().map(|rule| rule.to).collect();
    let merged = IpNet::aggregate(&networks);
    merged
        .into_iter()
        .map(|network| joined(network, service, group))
        .collect()
}

/// Single addresses become networks where enough of them were seen. What a person denied stays
/// out, whatever lies around it.
fn prefixes(
    service: &Service,
    group: &[Rule],
    denied: &[Denied],
    bits: u8,
    hosts: usize,
) -> Vec<Rule> {
    let mut found: BTreeMap<IpNet, usize> = BTreeMap::new();
    for rule in group.iter().filter(|rule| is_host(&rule.to)) {
        let is_v4 = matches!(rule.to, IpNet::V4(_));
        if is_v4 == (bits <= V4_BITS)
            && let Ok(network) = IpNet::new(rule.to.addr(), bits)
        {
            *found.entry(network.trunc()).or_default() += 1;
        }
    }
    let wide: Vec<IpNet> = found
        .into_iter()
        .filter_map(|(network, seen)| (seen >= hosts).then_some(network))
        .collect();
    let holes = |network: &IpNet| -> Vec<IpNet> {
        let is_hole = |each: &&Denied| {
            network.contains(&each.to) && each.services.iter().any(|port| port.covers(service))
        };
        denied.iter().filter(is_hole).map(|each| each.to).collect()
    };
    let mut merged: Vec<Rule> = wide
        .iter()
        .flat_map(|network| {
            holes(network)
                .into_iter()
                .fold(vec![*network], |parts, hole| {
                    let cut = |part| without(part, hole);
                    parts.into_iter().flat_map(cut).collect()
                })
        })
        .map(|part| joined(part, service, group))
        .collect();
    let is_covered = |rule: &Rule| merged.iter().any(|each| each.to.contains(&rule.to));
    let rest: Vec<Rule> = group
        .iter()
        .filter(|rule| !is_covered(rule))
        .cloned()
        .collect();
    merged.extend(rest);
    merged
}

/// One rule for `network`, with the reasons of all that it takes the place of.
fn joined(network: IpNet, service: &Service, group: &[Rule]) -> Rule {
    let inside: Vec<&Rule> = group
        .iter()
        .filter(|rule| network.contains(&rule.to))
        .collect();
    // A network around another one has counted what was seen in it.
    let is_outermost = |rule: &&&Rule| {
        !inside
            .iter()
            .any(|other| other.to != rule.to && other.to.contains(&rule.to))
    };
    let observed = inside
        .iter()
        .filter(is_outermost)
        .map(|rule| rule.observed)
        .sum();
    let comments: BTreeSet<&str> = inside
        .iter()
        .map(|rule| rule.comment.as_str())
        .filter(|comment| !comment.is_empty())
        .collect();
    Rule {
        to: network,
        service: service.clone(),
        comment: comments.into_iter().collect::<Vec<_>>().join("; "),
        // The same for all of the group.
        expires: inside.first().and_then(|rule| rule.expires),
        observed,
    }
}

fn is_host(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// How many addresses rules open, against how many of them were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breadth {
    pub rules: usize,
    /// Rules for more than one address.
    pub wide: usize,
    /// Of those, how many addresses were seen and are open, an address counting once a service.
    pub observed: u64,
    pub opened: Opened,
}

/// A number of addresses: IPv6 networks hold too many for any integer to add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Opened(pub f64);

impl Opened {
    /// The addresses of one network.
    #[must_use]
    pub fn of(network: &IpNet) -> Self {
        let bits = network.max_prefix_len() - network.prefix_len();
        Self(2_f64.powi(i32::from(bits)))
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXACT: f64 = 4_294_967_296.0;
        if self.0 <= EXACT {
            return write!(f, "{}", self.0);
        }
        let power = self.0.log2();
        if power.fract() == 0.0 {
            return write!(f, "2^{power}");
        }
        write!(f, "about 2^{power:.1}")
    }
}

impl fmt::Display for Breadth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rules,
            wide,
            observed,
            opened,
        } = self;
        write!(
            f,
            "{wide} of {rules} rule(s) are for more than one address: {observed} addresses \
             observed, {opened} opened"
        )
    }
}

/// Says in the comment of each rule for more than one address how wide it is, and sums it up.
/// Comments are cut at their end, so this comes first.
pub fn tell_breadth(rules: &mut RuleSet) -> Breadth {
    let mut breadth = Breadth {
        rules: rules.rules.len(),
        ..Breadth::default()
    };
    for rule in rules.rules.iter_mut().filter(|rule| !is_host(&rule.to)) {
        let opened = Opened::of(&rule.to);
        breadth.wide += 1;
        breadth.observed = breadth.observed.saturating_add(rule.observed);
        breadth.opened.0 += opened.0;
        let told = format!("{} of {opened} addresses observed", rule.observed);
        rule.comment = match rule.comment.as_str() {
            "" => told,
            comment => format!("{told}; {comment}"),
        };
    }
    for each in &mut rules.tools {
        let more = tell_breadth(&mut each.set);
        breadth.rules += more.rules;
        breadth.wide += more.wide;
        breadth.observed = breadth.observed.saturating_add(more.observed);
        breadth.opened.0 += more.opened.0;
    }
    breadth
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::net::IpAddr;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::render::Origin;

    fn host(low: u8) -> IpNet {
        IpNet::from(IpAddr::from([198, 51, 100, low]))
    }

    fn seen(to: IpNet, service: &str) -> Rule {
        Rule {
            observed: 1,
            ..Rule::new(to, service.parse().unwrap(), "curl")
        }
    }

    fn set(rules: Vec<Rule>) -> RuleSet {
        RuleSet::new("w", Origin::Candidate, rules)
    }

    fn written(rules: &RuleSet) -> Vec<String> {
        let text = |rule: &Rule| format!("{} {} {}", rule.to, rule.service, rule.comment);
        rules.rules.iter().map(text).collect()
    }

    #[test]
    fn a_wider_rule_outlives_nothing() {
        let until = |low: u8, month: i8| Rule {
            expires: Some(jiff::civil::date(2027, month, 1)),
            ..seen(host(low), "443/tcp")
        };
        let rules = set(vec![until(0, 1), until(1, 1), until(2, 1), until(3, 2)]);
        let merged = aggregate(rules, &[Aggregate::Exact]);
        let ends = merged.rules.iter().map(|rule| (rule.to, rule.expires));
        let ends: Vec<String> = ends
            .map(|(to, end)| format!("{to} {}", end.unwrap()))
            .collect();
        assert_eq!(
            ends,
            [
                "198.51.100.0/31 2027-01-01",
                "198.51.100.2/32 2027-01-01",
                "198.51.100.3/32 2027-02-01"
            ]
        );
    }

    #[test]
    fn ways_are_read_as_documented() {
        let read = |text: &str| text.parse::<Aggregate>();
        assert_eq!(read("exact"), Ok(Aggregate::Exact));
        assert_eq!(read("/64:8"), Ok(Aggregate::Prefix { bits: 64, hosts: 8 }));
        for bad in [
            "", "24:8", "/24", "/0:8", "/129:8", "/24:1", "/24:-1", "/24:x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_needs_its_hosts_and_tells_its_breadth() {
        let hosts = (0..8).map(|low| seen(host(low * 9), "443/tcp"));
        let few = (0..7).map(|low| seen(host(low), "80/tcp"));
        let mut rules = aggregate(set(hosts.chain(few).collect()), &["/24:8".parse().unwrap()]);
        let breadth = tell_breadth(&mut rules);
        assert_eq!(rules.rules.len(), 8);
        let wide = "198.51.100.0/24 443/tcp 8 of 256 addresses observed; curl";
        assert!(written(&rules).iter().any(|line| line == wide));
        assert_eq!(
            breadth.to_string(),
            "1 of 8 rule(s) are for more than one address: 8 addresses observed, 256 opened"
        );
    }

    #[test]
    fn what_is_denied_stays_out_of_a_prefix() {
        let hosts = (0..4).map(|low| seen(host(low), "443/tcp"));
        let rules = RuleSet {
            denied: vec![Denied {
                to: host(5),
                services: vec!["443/tcp".parse().unwrap()],
            }],
            ..set(hosts.collect())
        };
        let merged = aggregate(rules, &["/29:4".parse().unwrap()]);
        let networks: Vec<String> = merged
            .rules
            .iter()
            .map(|rule| rule.to.to_string())
            .collect();
        assert_eq!(
            networks,
            ["198.51.100.0/30", "198.51.100.4/32", "198.51.100.6/31"]
        );
    }

    #[test]
    fn ipv6_prefixes_are_told_as_powers() {
        let hosts = (1..=3_u16).map(|low| {
            let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, low]);
            seen(IpNet::from(address), "443/tcp")
        });
        let mut rules = aggregate(set(hosts.collect()), &["/64:3".parse().unwrap()]);
        tell_breadth(&mut rules);
        assert_eq!(
            written(&rules),
            ["2001:db8::/64 443/tcp 3 of 2^64 addresses observed; curl"]
        );
    }

    fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
        let one = (any::<u8>(), 24..=32_u8, 1..3_u8).prop_map(|(low, bits, port)| {
            let network = IpNet::new(host(low).addr(), bits).unwrap().trunc();
            seen(network, &format!("{port}/tcp"))
        });
        vec(one, 0..40)
    }

    fn is_open(rules: &RuleSet, low: u8, port: u16) -> bool {
        let service: Service = format!("{port}/tcp").parse().unwrap();
        let is_match = |rule: &Rule| rule.service == service && rule.to.contains(&host(low));
        rules.rules.iter().any(is_match)
    }

    proptest! {
        #[test]
        fn exact_opens_precisely_the_same_addresses(rules in any_rules()) {
            let before = set(rules);
            let after = aggregate(before.clone(), &[Aggregate::Exact]);
            prop_assert!(after.rules.len() <= before.rules.len());
            for port in 1..3 {
                for low in 0..=255 {
                    prop_assert_eq!(is_open(&before, low, port), is_open(&after, low, port));
                }
            }
        }

        #[test]
        fn no_prefix_loses_an_address_or_opens_a_denied_one(
            rules in any_rules(), hole in any::<u8>(), bits in 20..=32_u8, hosts in 2..6_usize,
        ) {
            let denied = Denied { to: host(hole), services: vec!["1/tcp".parse().unwrap()] };
            let is_free = |rule: &Rule| {
                rule.service.to_string() != "1/tcp" || !rule.to.contains(&host(hole))
            };
            let rules: Vec<Rule> = rules.into_iter().filter(is_free).collect();
            let before = RuleSet { denied: vec![denied], ..set(rules) };
            let after = aggregate(before.clone(), &[Aggregate::Prefix { bits, hosts }]);
            for port in 1..3 {
                for low in 0..=255 {
                    prop_assert!(!is_open(&before, low, port) || is_open(&after, low, port));
                }
            }
            prop_assert!(!is_open(&after, hole, 1));
        }
    }
}
