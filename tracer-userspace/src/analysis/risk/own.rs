//! Findings of one's own, and exceptions from findings: what a house knows about its destinations
//! and the table cannot.

mod read;
#[cfg(test)]
mod tests;

use glob::Pattern;
use ipnet::IpNet;
use jiff::civil::Date;

use super::{Finding, Severity, Subject};
use crate::policy::model::{Service, Target};

/// The value of the file's `schema` key.
pub const SCHEMA: &str = "egress-tracer/findings/1";

/// Rules and exceptions, as a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub rules: Vec<OwnRule>,
    pub exceptions: Vec<Exception>,
}

/// A finding of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRule {
    pub id: String,
    pub severity: Severity,
    /// Why it matters, in a sentence.
    pub reason: String,
    pub conditions: Conditions,
}

/// What a rule is about: all that is given has to hold. At least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Of the entry's name.
    pub name: Option<Pattern>,
    /// It overlaps with the entry's addresses, or with those that its name was seen to have.
    pub cidr: Option<IpNet>,
    /// One of the entry's ports.
    pub port: Option<Service>,
    /// The file name of one of the executables that were seen there.
    pub process: Option<Pattern>,
    /// One of the entry's tools.
    pub tool: Option<Pattern>,
}

/// What is no finding here, until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Of the table, or of one's own.
    pub finding: String,
    /// Of the entry's destination as the policy spells it.
    pub to: Pattern,
    pub reason: String,
    /// The last day on which it holds, UTC.
    pub expires: Date,
}

/// No rules and no exceptions.
pub const NONE: &Own = &Own {
    rules: Vec::new(),
    exceptions: Vec::new(),
};

impl Own {
    /// Without the exceptions that are over on `today` (UTC), and a sentence for each of them.
    #[must_use]
    pub fn on(mut self, today: Date) -> (Self, Vec<String>) {
        let is_over = |exception: &Exception| exception.expires < today;
        let (over, rest): (Vec<_>, Vec<_>) = self.exceptions.into_iter().partition(is_over);
        self.exceptions = rest;
        let told = over.into_iter().map(|exception| {
            let Exception {
                finding,
                to,
                expires,
                ..
            } = exception;
            format!("the exception from {finding} for {to} expired on {expires}")
        });
        (self, told.collect())
    }

    /// Whether a rule has that name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.rules.iter().any(|rule| rule.id == id)
    }

    /// The exception that speaks of this finding about `to`.
    #[must_use]
    pub fn exception(&self, id: &str, to: &Target) -> Option<&Exception> {
        let to = to.to_string();
        let mut all = self.exceptions.iter();
        all.find(|each| each.finding == id && each.to.matches(&to))
    }

    /// What one's own rules find.
    pub(super) fn findings<'o>(
        &'o self,
        subject: &'o Subject<'_>,
    ) -> impl Iterator<Item = Finding> + 'o {
        let holding = self
            .rules
            .iter()
            .filter(|rule| rule.conditions.hold(subject));
        holding.map(|rule| Finding {
            id: rule.id.clone().into(),
            severity: rule.severity,
            why: rule.reason.clone().into(),
            is_broad: false,
        })
    }
}

impl Conditions {
    fn hold(&self, subject: &Subject<'_>) -> bool {
        let Subject { entry, seen, .. } = subject;
        let name = self
            .name
            .as_ref()
            .is_none_or(|name| entry.to.is_name() && name.matches(&entry.to.to_string()));
        let cidr = self.cidr.as_ref().is_none_or(|cidr| {
            let overlaps = |each: &IpNet| cidr.contains(each) || each.contains(cidr);
            let seen = seen.filter(|_| entry.to.is_name());
            let mut of_name = seen.iter().flat_map(|seen| &seen.addresses);
            entry.to.networks().iter().any(overlaps) || of_name.any(|ip| cidr.contains(ip))
        });
        let port = self.port.as_ref().is_none_or(|port| {
            let mut ports = entry.ports.iter();
            ports.any(|known| known.covers(port) || port.covers(known))
        });
        let process = self.process.as_ref().is_none_or(|process| {
            let mut processes = seen.iter().flat_map(|seen| &seen.processes);
            processes.any(|name| process.matches(name))
        });
        let tool = self.tool.as_ref().is_none_or(|tool| {
            let mut tools = entry.tools.iter().flatten();
            tools.any(|name| tool.matches(name))
        });
        name && cidr && port && process && tool
    }
}
