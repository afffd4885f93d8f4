//! Rules for enforcement points: one file a backend, text out, no I/O.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::policy::model::Service;

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
