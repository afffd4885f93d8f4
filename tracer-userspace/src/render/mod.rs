//! Rules for enforcement points: one file a backend, text out, no I/O.
//!
//! [`Format`] names the backends; [`Options::check`] says whether options can be rendered at all.

mod elements;
mod header;
mod iptables;
mod nftables;
mod options;
mod text;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use jiff::civil::Date;

pub use self::options::{BadOption, DEFAULT_CHAIN, DEFAULT_TABLE, MAX_CHAIN, MAX_TABLE};
use crate::policy::model::Service;

/// The netfilter log group that what no rule allows is logged to.
pub const NFLOG_GROUP: u16 = 5;

/// What a backend is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    pub workload: String,
    pub origin: Origin,
    /// Sorted by destination, then service; no duplicates.
    pub rules: Vec<Rule>,
    /// Said at the top of the output: why the evidence may be incomplete.
    pub warnings: Vec<String>,
}

/// Whether a person has looked at the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Proposed from observation; nobody has reviewed it.
    Candidate,
    /// Approved and unexpired entries of a reviewed policy.
    Reviewed,
}

/// One destination and service to let pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// A single address is a /32 or /128.
    pub to: IpNet,
    pub service: Service,
    /// What it is for. Comes from the workload: every backend must escape it.
    pub comment: String,
    /// The last day on which it holds, UTC; `None` for what nobody has approved.
    pub expires: Option<Date>,
}

/// Where and how the rules are to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub table: String,
    pub chain: String,
    pub scope: Scope,
    pub verdict: Verdict,
}

/// Whose traffic the rules are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that leaves the network namespace in which the rules are loaded (hook output).
    Namespace,
    /// What the host forwards for a container: by its addresses, or by its interface.
    Forward {
        sources: Vec<IpNet>,
        interface: Option<String>,
    },
    /// What processes of one cgroup on this host send (hook output).
    Cgroup { path: String },
}

/// What happens to traffic that no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verdict {
    /// Count and log it, and let it pass: a dry run.
    Log,
    /// Count and log it, and drop it.
    Drop,
    /// Count and log it, and tell the sender.
    Reject,
}

/// What a backend made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// What this backend could not express, or had to widen; also said in `text` as comments.
    pub omissions: Vec<String>,
}

/// A rule language.
pub trait Backend {
    /// Deterministic: the same rules and options give the same bytes.
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered;
}

/// The rule languages that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Format {
    /// One nftables table, IPv4 and IPv6.
    Nftables,
    /// `iptables-restore` input: the IPv4 rules.
    Iptables,
    /// `ip6tables-restore` input: the IPv6 rules.
    Ip6tables,
}

impl Format {
    /// Every format, in the order in which their files are written.
    pub const ALL: [Self; 3] = [Self::Nftables, Self::Iptables, Self::Ip6tables];

    /// What writes this format.
    #[must_use]
    pub fn backend(self) -> &'static dyn Backend {
        match self {
            Self::Nftables => &nftables::Nftables,
            Self::Iptables => &iptables::Iptables::V4,
            Self::Ip6tables => &iptables::Iptables::V6,
        }
    }

    /// The file name that `run`, the daemon and the output's own header use.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Nftables => "rules.nft",
            Self::Iptables => "rules.v4",
            Self::Ip6tables => "rules.v6",
        }
    }
}

/// The distinct destination addresses of single-host rules.
#[must_use]
pub fn hosts(rules: &RuleSet) -> BTreeSet<IpAddr> {
    rules
        .rules
        .iter()
        .filter(|rule| rule.to.prefix_len() == rule.to.max_prefix_len())
        .map(|rule| rule.to.addr())
        .collect()
}

/// Small rule sets for the backends' tests.
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot parse its own text fails"
)]
mod examples {
    use super::{Origin, Rule, RuleSet};

    pub(super) fn rule_set(origin: Origin, rules: &[(&str, &str, &str)]) -> RuleSet {
        let rules = rules.iter().map(|(to, service, comment)| Rule {
            to: to.parse().unwrap(),
            service: service.parse().unwrap(),
            comment: (*comment).to_owned(),
            expires: None,
        });
        RuleSet {
            workload: "shop_agent".to_owned(),
            origin,
            rules: rules.collect(),
            warnings: Vec::new(),
        }
    }

    /// One of each shape, and one that no packet filter can say.
    pub(super) fn mixed(origin: Origin) -> RuleSet {
        rule_set(
            origin,
            &[
                ("198.51.100.0/24", "443/tcp", "cdn.example.com"),
                ("198.51.100.0/25", "443/tcp", "cdn.example.com"),
                ("198.51.100.7/32", "443/tcp", "api.example.com (curl)"),
                ("198.51.100.7/32", "gre", ""),
                ("198.51.100.7/32", "icmp/no-such-type", ""),
                ("2001:db8::7/128", "53/udp", "\"; flush ruleset; \""),
                ("2001:db8::7/128", "icmpv6/echo-request", "ping"),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn formats_are_asked_for_by_the_tools_names() {
        let names = Format::ALL.map(|format| {
            format
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
        });
        let expected = ["nftables", "iptables", "ip6tables"].map(|name| Some(name.to_owned()));
        assert_eq!(names, expected);
        assert_eq!(Format::value_variants(), Format::ALL);
    }
}
