//! A person's decision, and what it needs before it counts: a reason, an owner, an end, and that
//! whoever approves has seen the worst of it.

use jiff::{ToSpan as _, civil::Date};

use crate::{
    analysis::risk::{self, Finding, Subject, own::Own},
    policy::model::{Entry, Status},
};

/// How long an approval holds unless it says otherwise, in days.
pub const DEFAULT_EXPIRY_DAYS: u16 = 90;
/// How long an approval may hold unless the settings say otherwise, in days.
pub const DEFAULT_MAX_EXPIRY_DAYS: u16 = 366;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Approve,
    Deny,
}

/// What is decided about one or more entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub ruling: Ruling,
    pub reason: String,
    pub owner: String,
    /// The day of the decision, UTC.
    pub on: Date,
    /// The last day on which it holds, UTC. An approval must have one.
    pub expires: Option<Date>,
    pub reference: Option<String>,
    /// Findings by name.
    pub acknowledged: Vec<String>,
}

/// Why a decision does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0:?} is not a reason: say in a few words why, for whoever reads it in a year")]
    Reason(String),
    #[error("the owner is empty: name the person or team that answers for it")]
    Owner,
    #[error("an approval needs a last day")]
    NoEnd,
    #[error("the last day, {expires}, is before today, {today} (UTC)")]
    Past { expires: Date, today: Date },
    #[error("the last day, {expires}, is after {latest}, the latest allowed (--max-expiry)")]
    TooLong { expires: Date, latest: Date },
    #[error("{to}: {}", unacknowledged(.findings))]
    Unacknowledged { to: String, findings: Vec<Finding> },
    #[error("{0:?} is not a finding; they are listed in docs/findings.md")]
    UnknownFinding(String),
}

/// Whether a text is a reason: more than a word.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
    text.split_whitespace().filter(is_word).count() >= 2
}

fn unacknowledged(findings: &[Finding]) -> String {
    let each: Vec<String> = findings
        .iter()
        .map(|Finding { id, why, .. }| {
            format!("{id}: {why} To approve all the same: --acknowledge {id}")
        })
        .collect();
    each.join("; ")
}

impl Decision {
    /// Whether it counts, whatever it is about. `max_days` is the longest that an approval may
    /// hold, `own` has findings beside the table's.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, max_days: u16, own: &Own) -> Result<(), Refusal> {
        if !is_reason(&self.reason) {
            return Err(Refusal::Reason(self.reason.clone()));
        }
        if self.owner.trim().is_empty() {
            return Err(Refusal::Owner);
        }
        let is_unknown = |id: &&String| risk::rule(id).is_none() && !own.has(id);
        if let Some(unknown) = self.acknowledged.iter().find(is_unknown) {
            return Err(Refusal::UnknownFinding(unknown.clone()));
        }
        match (self.ruling, self.expires) {
            (Ruling::Approve, None) => Err(Refusal::NoEnd),
            (Ruling::Approve, Some(expires)) => self.check_end(expires, max_days),
            (Ruling::Deny, Some(expires)) if expires < self.on => Err(Refusal::Past {
                expires,
                today: self.on,
            }),
            (Ruling::Deny, Some(_) | None) => Ok(()),
        }
    }

    fn check_end(&self, expires: Date, max_days: u16) -> Result<(), Refusal> {
        let today = self.on;
        if expires < today {
            return Err(Refusal::Past { expires, today });
        }
        let latest = days_after(today, max_days);
        if expires > latest {
            return Err(Refusal::TooLong { expires, latest });
        }
        Ok(())
    }

    /// What was found about the subject, for its `findings`, if the decision may stand.
    ///
    /// # Errors
    /// Findings that an approval has to acknowledge and does not.
    pub fn about(&self, subject: &Subject<'_>) -> Result<Vec<String>, Refusal> {
        let found = risk::findings(subject);
        let is_open = |finding: &&Finding| {
            let is_acknowledged = self.acknowledged.iter().any(|id| *id == finding.id);
            finding.must_be_acknowledged() && !is_acknowledged
        };
        let open: Vec<Finding> = found.iter().filter(is_open).cloned().collect();
        if self.ruling == Ruling::Approve && !open.is_empty() {
            return Err(Refusal::Unacknowledged {
                to: subject.entry.to.to_string(),
                findings: open,
            });
        }
        let mut ids: Vec<String> = found.iter().map(|each| each.id.to_string()).collect();
        let others = subject.entry.findings.iter();
        let unknown = others.filter(|id| risk::rule(id).is_none() && !subject.own.has(id));
        ids.extend(unknown.cloned());
        Ok(ids)
    }

    /// Those of `findings` that were acknowledged.
    #[must_use]
    pub fn acknowledged_of(&self, findings: &[String]) -> Vec<String> {
        let is_acknowledged = |id: &&String| self.acknowledged.contains(id);
        findings.iter().filter(is_acknowledged).cloned().collect()
    }
}

/// The day so many days later, or the last day there is.
#[must_use]
pub fn days_after(day: Date, days: u16) -> Date {
    day.checked_add(i32::from(days).days()).unwrap_or(Date::MAX)
}

impl Status {
    /// As policies spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

impl Entry {
    /// Whether it is approved, has not expired on `today` (UTC), and opens no more than was
    /// approved.
    #[must_use]
    pub fn is_in_force(&self, today: Date) -> bool {
        self.status == Status::Approved && !self.has_expired(today) && self.is_as_approved()
    }

    /// Whether it was approved until a day before `today` (UTC).
    #[must_use]
    pub fn has_expired(&self, today: Date) -> bool {
        self.status == Status::Approved && self.expires.is_none_or(|last| last < today)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::analysis::risk::own::NONE;

    fn decision(ruling: Ruling, reason: &str, expires: Option<&str>) -> Decision {
        Decision {
            ruling,
            reason: reason.to_owned(),
            owner: "team".to_owned(),
            on: "2026-11-22".parse().unwrap(),
            expires: expires.map(|day| day.parse().unwrap()),
            reference: None,
            acknowledged: Vec::new(),
        }
    }

    #[test]
    fn a_reason_is_more_than_a_word() {
        for reason in ["", "ok", "  needed ", "because -", "- -"] {
            let refused = decision(Ruling::Deny, reason, None).check(90, NONE);
            assert_eq!(refused, Err(Refusal::Reason(reason.to_owned())));
        }
        assert_eq!(
            decision(Ruling::Deny, "no need", None).check(90, NONE),
            Ok(())
        );
    }

    #[test]
    fn an_approval_ends_and_not_too_late() {
        let check = |end| decision(Ruling::Approve, "model provider", end).check(90, NONE);
        assert_eq!(check(None), Err(Refusal::NoEnd));
        assert_eq!(check(Some("2026-11-22")), Ok(()));
        assert_eq!(check(Some("2027-02-20")), Ok(()));
        assert!(matches!(
            check(Some("2027-02-21")),
            Err(Refusal::TooLong { .. })
        ));
        assert!(matches!(
            check(Some("2026-11-21")),
            Err(Refusal::Past { .. })
        ));
    }

    #[test]
    fn the_worst_has_to_be_named() {
        let entry = Entry::candidate(
            "10.0.0.0/8".parse().unwrap(),
            vec!["80/tcp".parse().unwrap()],
        );
        let subject = Subject::of(&entry);
        let mut approval = decision(Ruling::Approve, "our own network", Some("2026-12-01"));
        let refused = approval.about(&subject).unwrap_err().to_string();
        assert!(refused.contains("--acknowledge broad"), "{refused}");
        approval.acknowledged = vec!["broad".to_owned(), "wildcard".to_owned()];
        let found = approval.about(&subject).unwrap();
        assert_eq!(found, ["broad", "cleartext", "private-address"]);
        assert_eq!(approval.acknowledged_of(&found), ["broad"]);
        approval.acknowledged = vec!["brood".to_owned()];
        assert_eq!(
            approval.check(90, NONE),
            Err(Refusal::UnknownFinding("brood".to_owned()))
        );
    }
}
