//! Rules for enforcement points: one file a backend, text out, no I/O.
//!
//! [`Format`] names the backends; [`Options::check`] says whether options can be rendered at all.

mod calico;
mod cilium;
mod dnsmasq;
mod domains;
pub(crate) mod elements;
mod harden_runner;
mod header;
mod ipset;
mod iptables;
mod kubernetes;
mod languages;
pub(crate) mod names;
mod neutral;
mod nftables;
mod options;
mod sandbox_runtime;
mod squid;
mod text;

#[cfg(test)]
pub(crate) mod hostile;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::civil::Date;

pub use self::{
    languages::{Naming, list},
    options::{BadOption, DEFAULT_CHAIN, DEFAULT_TABLE, MAX_CHAIN, MAX_TABLE},
};
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
    /// What is allowed by name. Sorted, no duplicates.
    pub names: Vec<NamedRule>,
    /// What is allowed to one tool alone, beside all of this. Sorted; for nftables by cgroup.
    pub tools: Vec<ToolRules>,
    /// What is denied by address: holes that nothing may fill again.
    pub denied: Vec<Denied>,
    /// What the policy allows and no backend can express, one sentence each.
    pub left_out: Vec<String>,
    /// Said at the top of the output: why the evidence may be incomplete.
    pub warnings: Vec<String>,
}

impl RuleSet {
    /// Rules by address alone.
    #[must_use]
    pub fn new(workload: impl Into<String>, origin: Origin, rules: Vec<Rule>) -> Self {
        Self {
            workload: workload.into(),
            origin,
            rules,
            names: Vec::new(),
            tools: Vec::new(),
            denied: Vec::new(),
            left_out: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// What everybody may, and then what each tool may.
    pub fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.tools.iter().map(|each| &each.set))
    }
}

/// What commands in the cgroup of one tool may, beside what everybody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRules {
    /// Comes from the policy: every backend must escape it.
    pub tool: String,
    pub set: RuleSet,
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
    /// How many of its addresses were seen with this service.
    pub observed: u64,
}

impl Rule {
    /// A rule about which nothing was counted.
    #[must_use]
    pub fn new(to: IpNet, service: Service, comment: impl Into<String>) -> Self {
        Self {
            to,
            service,
            comment: comment.into(),
            expires: None,
            observed: 0,
        }
    }
}

/// One name and service to let pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedRule {
    /// `api.example.com`, or `*.example.com` for every name below it. To be checked before use.
    pub name: String,
    pub service: Service,
    /// As in [`Rule`].
    pub comment: String,
    /// As in [`Rule`].
    pub expires: Option<Date>,
}

/// Services that are denied at some addresses, whatever is allowed around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub to: IpNet,
    pub services: Vec<Service>,
}

/// Where and how the rules are to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub table: String,
    pub chain: String,
    pub scope: Scope,
    pub verdict: Verdict,
    /// For Kubernetes: whom a policy is about.
    pub pods: Pods,
    /// For nftables: declare sets of names, for `egress-tracer names` or dnsmasq to fill.
    pub name_sets: bool,
}

/// The pods that a Kubernetes policy selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// Absent: that of whoever applies it.
    pub namespace: Option<String>,
    /// All must match; a policy without any would select every pod.
    pub labels: BTreeMap<String, String>,
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

    /// Whether it can do what `options` ask for. One that cannot renders no rules, and says why.
    ///
    /// # Errors
    /// The first option that it cannot follow.
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check()
    }
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
    /// `ipset restore` input: the sets that the next two look into.
    Ipset,
    /// `iptables-restore` input that looks into the sets of `ipset`.
    IptablesIpset,
    /// `ip6tables-restore` input that looks into the sets of `ipset`.
    Ip6tablesIpset,
    /// A Kubernetes NetworkPolicy.
    #[value(name = "networkpolicy")]
    NetworkPolicy,
    /// A CiliumNetworkPolicy, by address and by name.
    Cilium,
    /// A Calico NetworkPolicy.
    Calico,
    /// dnsmasq lines that fill the sets of `nftables --name-sets`.
    Dnsmasq,
    /// Access lists for the Squid proxy.
    Squid,
    /// Names alone, one a line: for Envoy and other proxies.
    Domains,
    /// `allowed-endpoints` for StepSecurity's Harden-Runner.
    HardenRunner,
    /// Network settings of the sandbox runtime.
    SandboxRuntime,
    /// Everything, as JSON, for programs.
    Json,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 15] = [
        Self::Nftables,
        Self::Iptables,
        Self::Ip6tables,
        Self::Ipset,
        Self::IptablesIpset,
        Self::Ip6tablesIpset,
        Self::NetworkPolicy,
        Self::Cilium,
        Self::Calico,
        Self::Dnsmasq,
        Self::Squid,
        Self::Domains,
        Self::HardenRunner,
        Self::SandboxRuntime,
        Self::Json,
    ];

    /// What writes this format.
    #[must_use]
    pub fn backend(self) -> &'static dyn Backend {
        match self {
            Self::Nftables => &nftables::Nftables,
            Self::Iptables => &iptables::Iptables::V4,
            Self::Ip6tables => &iptables::Iptables::V6,
            Self::Ipset => &ipset::Ipset,
            Self::IptablesIpset => &iptables::Iptables::V4_SETS,
            Self::Ip6tablesIpset => &iptables::Iptables::V6_SETS,
            Self::NetworkPolicy => &kubernetes::NetworkPolicy,
            Self::Cilium => &cilium::Cilium,
            Self::Calico => &calico::Calico,
            Self::Dnsmasq => &dnsmasq::Dnsmasq,
            Self::Squid => &squid::Squid,
            Self::Domains => &domains::Domains,
            Self::HardenRunner => &harden_runner::HardenRunner,
            Self::SandboxRuntime => &sandbox_runtime::SandboxRuntime,
            Self::Json => &neutral::Neutral,
        }
    }

    /// The file name that `run`, the daemon and the output's own header use.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Nftables => "rules.nft",
            Self::Iptables => "rules.v4",
            Self::Ip6tables => "rules.v6",
            Self::Ipset => "rules.ipset",
            Self::IptablesIpset => "rules-ipset.v4",
            Self::Ip6tablesIpset => "rules-ipset.v6",
            Self::NetworkPolicy => "networkpolicy.yaml",
            Self::Cilium => "cilium.yaml",
            Self::Calico => "calico.yaml",
            Self::Dnsmasq => "dnsmasq.conf",
            Self::Squid => "squid.conf",
            Self::Domains => "domains.txt",
            Self::HardenRunner => "harden-runner.yaml",
            Self::SandboxRuntime => "sandbox-runtime.json",
            Self::Json => "rules.json",
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
        let rules = rules.iter().map(|(to, service, comment)| {
            Rule::new(to.parse().unwrap(), service.parse().unwrap(), *comment)
        });
        RuleSet::new("shop_agent", origin, rules.collect())
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
        let expected = [
            "nftables",
            "iptables",
            "ip6tables",
            "ipset",
            "iptables-ipset",
            "ip6tables-ipset",
            "networkpolicy",
            "cilium",
            "calico",
            "dnsmasq",
            "squid",
            "domains",
            "harden-runner",
            "sandbox-runtime",
            "json",
        ];
        assert_eq!(names, expected.map(|name| Some(name.to_owned())));
        assert_eq!(Format::value_variants(), Format::ALL);
    }
}
