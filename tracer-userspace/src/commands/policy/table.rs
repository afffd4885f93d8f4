//! Entries with what is known about them, as rows of a table or of JSON.

use jiff::civil::Date;
use serde::Serialize;

use super::Common;
use crate::{
    analysis::{
        risk::{self, Severity, Subject},
        summary::{Summaries, Summary},
    },
    commands::policy_file::PolicyFile,
    output::terminal,
    policy::{model::Status, selector},
};

/// One entry. The JSON keys are relied on by people's scripts.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What it is called on the command line.
    pub(super) entry: String,
    pub(super) to: String,
    pub(super) ports: Vec<String>,
    /// What leaves in place of a port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) translated: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<Vec<String>>,
    /// The executables that it is for; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processes: Option<Vec<String>>,
    pub(super) status: Status,
    /// An approval whose last day is over.
    pub(super) expired: bool,
    /// Approved, not expired, and no wider than was approved.
    pub(super) in_force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) approved: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    /// Worst first.
    pub(super) findings: Vec<Finding>,
    /// What would be found if the file of --findings did not except it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) excepted: Vec<Excepted>,
    pub(super) acknowledged: Vec<String>,
    /// The published cloud ranges it is in, such as aws:S3:us-east-1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ranges: Vec<String>,
    /// Absent if nothing was observed, or there is no evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed: Option<Observed>,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) id: String,
    /// Absent for findings of another version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) severity: Option<Severity>,
}

#[derive(Debug, Serialize)]
pub(super) struct Excepted {
    pub(super) id: String,
    pub(super) reason: String,
    pub(super) expires: Date,
}

#[derive(Debug, Serialize)]
pub(super) struct Observed {
    pub(super) connections: u64,
    pub(super) runs: u64,
    pub(super) runs_recorded: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_seen: Option<String>,
    pub(super) processes: Vec<String>,
    /// What its destinations are there for, or whose they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) roles: Vec<String>,
}

/// A row for each entry, in the file's order.
pub(super) fn rows(file: &PolicyFile, common: &Common) -> anyhow::Result<Vec<Row>> {
    let judging = common.load_judging()?;
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let entries = file.policy.entries.iter().enumerate();
    entries
        .map(|(index, entry)| {
            let seen = summaries.as_ref().and_then(|all| all.of(entry));
            let name = selector::name_of(&file.policy, index);
            Ok(row(
                name,
                &judging.subject(entry, seen.as_ref()),
                common.today(),
            ))
        })
        .collect()
}

fn row(name: String, subject: &Subject<'_>, today: Date) -> Row {
    let Subject {
        entry,
        seen,
        ranges,
        ..
    } = *subject;
    Row {
        entry: name,
        to: entry.to.to_string(),
        ports: entry.ports.iter().map(ToString::to_string).collect(),
        translated: entry.translated.iter().map(ToString::to_string).collect(),
        tools: entry.tools.clone(),
        processes: entry.processes.clone(),
        status: entry.status,
        expired: entry.has_expired(today),
        in_force: entry.is_in_force(today),
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        approved: entry.approved,
        expires: entry.expires,
        reference: entry.reference.clone(),
        findings: found(subject),
        excepted: excepted(subject),
        acknowledged: entry.acknowledged.clone(),
        ranges: ranges.map_or_else(Vec::new, |ranges| super::tags(ranges, &entry.to)),
        observed: seen.map(Observed::from),
    }
}

/// What is found now, and what the entry says beside it.
fn found(subject: &Subject<'_>) -> Vec<Finding> {
    let rules = risk::findings(subject);
    let excepted = excepted(subject);
    let is_new = |id: &&String| {
        rules.iter().all(|each| each.id != id.as_str())
            && excepted.iter().all(|each| each.id != **id)
    };
    let others = subject.entry.findings.iter().filter(is_new);
    let others = others.map(|id| Finding {
        id: id.clone(),
        severity: risk::rule(id).map(|rule| rule.severity),
    });
    let now = rules.iter().map(|each| Finding {
        id: each.id.to_string(),
        severity: Some(each.severity),
    });
    let mut all: Vec<Finding> = now.chain(others).collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

fn excepted(subject: &Subject<'_>) -> Vec<Excepted> {
    let all = risk::excepted(subject).into_iter();
    all.map(|(finding, exception)| Excepted {
        id: finding.id.to_string(),
        reason: exception.reason.clone(),
        expires: exception.expires,
    })
    .collect()
}

impl From<&Summary> for Observed {
    fn from(seen: &Summary) -> Self {
        Self {
            connections: seen.connections,
            runs: seen.runs,
            runs_recorded: seen.runs_recorded,
            bytes_sent: seen.bytes_sent,
            bytes_received: seen.bytes_received,
            first_seen: seen.first_seen.map(|time| time.to_string()),
            last_seen: seen.last_seen.map(|time| time.to_string()),
            processes: seen.processes.iter().cloned().collect(),
            roles: seen.roles.iter().cloned().collect(),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 7] {
        let status = match (self.status, self.expired) {
            (Status::Approved, true) => "expired",
            (Status::Approved, false) if !self.in_force => "widened",
            (status, _) => status.word(),
        };
        let seen = match &self.observed {
            Some(seen) => format!("{}/{}", seen.runs, seen.runs_recorded),
            None => "never".to_owned(),
        };
        let expires = self.expires.map_or_else(String::new, |day| day.to_string());
        let findings: Vec<&str> = self.findings.iter().map(|each| each.id.as_str()).collect();
        [
            self.entry.clone(),
            self.ports.join(" "),
            status.to_owned(),
            expires,
            seen,
            self.whose(),
            findings.join(" "),
        ]
        .map(|cell| terminal::escape(&cell))
    }
}

impl Row {
    /// The published range that it is in, else what it is there for.
    fn whose(&self) -> String {
        let roles = self.observed.iter().flat_map(|seen| &seen.roles);
        let mut all = self.ranges.iter().chain(roles);
        all.next().cloned().unwrap_or_default()
    }
}

/// The rows as text, in columns.
pub(super) fn text(rows: &[Row]) -> String {
    let head = [
        "ENTRY", "PORTS", "STATUS", "EXPIRES", "RUNS", "NETWORK", "FINDINGS",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += padded.join("  ").trim_end();
        text.push('\n');
    }
    text
}
