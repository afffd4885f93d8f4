//! Findings: what a table of plain functions says about an entry, and why it matters.
//!
//! `docs/findings.md` holds the same table; a test compares the two.

mod behaviour;
mod destination;
pub mod own;
mod table;

use std::{borrow::Cow, fmt};

use serde::Serialize;

use self::own::Own;
pub use self::table::RULES;
use crate::{
    analysis::summary::Summary,
    policy::model::{Entry, Service, Status, Target},
    ranges::Ranges,
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
    /// Rules and exceptions of one's own.
    pub own: &'a Own,
    /// Published ranges, where they are at hand.
    pub ranges: Option<&'a Ranges>,
}

impl<'a> Subject<'a> {
    /// An entry by itself: never observed, judged by the table and nothing else.
    #[must_use]
    pub fn of(entry: &'a Entry) -> Self {
        Self {
            entry,
            seen: None,
            limits: Limits::default(),
            own: own::NONE,
            ranges: None,
        }
    }
}

/// What is said about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub id: Cow<'static, str>,
    pub severity: Severity,
    /// What was found and why it matters.
    pub why: Cow<'static, str>,
    /// Whether an approval has to name it, whatever its severity.
    pub is_broad: bool,
}

impl Finding {
    /// Whether nobody may approve an entry that it speaks of without naming it.
    #[must_use]
    pub fn must_be_acknowledged(&self) -> bool {
        must_be_acknowledged(self.severity, self.is_broad)
    }
}

impl From<&Rule> for Finding {
    fn from(rule: &Rule) -> Self {
        Self {
            id: rule.id.into(),
            severity: rule.severity,
            why: rule.why.into(),
            is_broad: rule.is_broad,
        }
    }
}

fn must_be_acknowledged(severity: Severity, is_broad: bool) -> bool {
    is_broad || severity == Severity::Critical
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
        must_be_acknowledged(self.severity, self.is_broad)
    }
}

/// Everything that is found and not excepted, worst first.
#[must_use]
pub fn findings(subject: &Subject<'_>) -> Vec<Finding> {
    let is_excepted = |found: &Finding| exception(subject, &found.id).is_some();
    let mut found = all(subject);
    found.retain(|found| !is_excepted(found));
    found
}

/// What would be found if it were not excepted, with the reason why it is, worst first.
#[must_use]
pub fn excepted<'o>(subject: &Subject<'o>) -> Vec<(Finding, &'o own::Exception)> {
    let found = all(subject).into_iter();
    found
        .filter_map(|found| Some((found.clone(), exception(subject, &found.id)?)))
        .collect()
}

fn exception<'o>(subject: &Subject<'o>, id: &str) -> Option<&'o own::Exception> {
    subject.own.exception(id, &subject.entry.to)
}

fn all(subject: &Subject<'_>) -> Vec<Finding> {
    let holding = RULES.iter().filter(|rule| (rule.holds)(subject));
    let mut found: Vec<Finding> = holding.map(Finding::from).collect();
    found.extend(subject.own.findings(subject));
    found.sort_by_key(|found| std::cmp::Reverse(found.severity));
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
        processes: None,
        status: Status::Candidate,
        reason: None,
        owner: None,
        approved: None,
        expires: None,
        reference: None,
        list: Vec::new(),
        at_most: None,
        findings: Vec::new(),
        roles: Vec::new(),
        acknowledged: Vec::new(),
    };
    let subject = Subject::of(&entry);
    let is_written = |rule: &&Rule| {
        rule.basis == Basis::Destination && rule.severity > Severity::Low && (rule.holds)(&subject)
    };
    let mut found: Vec<&Rule> = RULES.iter().filter(is_written).collect();
    found.sort_by_key(|rule| std::cmp::Reverse(rule.severity));
    found.into_iter().map(|rule| rule.id.to_owned()).collect()
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
