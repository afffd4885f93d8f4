//! Findings: what a table of plain functions says about an entry, and why it matters.
//!
//! `docs/findings.md` holds the same table; a test compares the two.

mod behaviour;
mod destination;
mod table;

use std::fmt;

use serde::Serialize;

pub use self::table::RULES;
use crate::{
    analysis::summary::Summary,
    policy::model::{Entry, Service, Status, Target},
};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Low,
    /// Needs an explanation.
    Medium,
    /// Rarely right.
    High,
    /// Approved only if the finding is acknowledged by name.
    Critical,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Where an entry goes. Such findings stand in the policy: they change only with the entry.
    Destination,
    /// What was observed, which changes with every run: told when somebody looks, never written
    /// into a candidate.
    Figures,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// In policies and on the command line.
    pub id: &'static str,
    pub severity: Severity,
    pub basis: Basis,
    /// Whether an approval has to name it, whatever its severity: what is allowed is more than what
    /// was seen.
    pub is_broad: bool,
    /// What was found and why it matters, in one sentence each.
    pub why: &'static str,
    pub holds: fn(&Subject<'_>) -> bool,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub entry: &'a Entry,
    /// `None` if it was never observed, or nobody has the evidence.
    pub seen: Option<&'a Summary>,
    pub limits: Limits,
}

/// Above what a rule speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses that one entry may open; of IPv6, /64 networks.
    pub max_addresses: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_addresses: 256 }
    }
}

impl Rule {
    /// Whether nobody may approve an entry that it speaks of without naming it.
    #[must_use]
    pub fn must_be_acknowledged(&self) -> bool {
        self.is_broad || self.severity == Severity::Critical
    }
}

/// Everything that is found, worst first.
#[must_use]
pub fn findings(subject: &Subject<'_>) -> Vec<&'static Rule> {
    let mut found: Vec<&Rule> = RULES.iter().filter(|rule| (rule.holds)(subject)).collect();
    found.sort_by_key(|rule| std::cmp::Reverse(rule.severity));
    found
}

/// What a candidate's `findings` say: what follows from the destination alone, without the low
/// ones, which hold for nearly every candidate.
#[must_use]
pub fn written(to: &Target, ports: &[Service]) -> Vec<String> {
    let entry = Entry {
        to: to.clone(),
        ports: ports.to_vec(),
        translated: Vec::new(),
        tools: None,
        status: Status::Candidate,
        reason: None,
        owner: None,
        approved: None,
        expires: None,
        reference: None,
        list: Vec::new(),
        at_most: None,
        findings: Vec::new(),
        acknowledged: Vec::new(),
    };
    let subject = Subject {
        entry: &entry,
        seen: None,
        limits: Limits::default(),
    };
    findings(&subject)
        .into_iter()
        .filter(|rule| rule.basis == Basis::Destination && rule.severity > Severity::Low)
        .map(|rule| rule.id.to_owned())
        .collect()
}

/// The rule of that name.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// The table as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| finding | severity | looks at | why |\n|---|---|---|---|\n");
    for rule in &RULES {
        let basis = match rule.basis {
            Basis::Destination => "destination",
            Basis::Figures => "figures",
        };
        let broad = if rule.must_be_acknowledged() {
            " (acknowledge)"
        } else {
            ""
        };
        let (id, severity, why) = (rule.id, rule.severity, rule.why);
        text += &format!("| `{id}` | {severity}{broad} | {basis} | {why} |\n");
    }
    text
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

#[cfg(test)]
mod tests;
