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
    policy::{
        model::{Entry, Status},
        selector,
    },
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
}

/// A row for each entry, in the file's order.
pub(super) fn rows(file: &PolicyFile, common: &Common) -> anyhow::Result<Vec<Row>> {
    let ranges = common.load_ranges()?;
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let entries = file.policy.entries.iter().enumerate();
    entries
        .map(|(index, entry)| {
            let seen = summaries.as_ref().and_then(|all| all.of(entry));
            let name = selector::name_of(&file.policy, index);
            let mut row = row(name, entry, seen.as_ref(), common);
            row.ranges = super::tags(&ranges, &entry.to);
            Ok(row)
        })
        .collect()
}

fn row(name: String, entry: &Entry, seen: Option<&Summary>, common: &Common) -> Row {
    Row {
        entry: name,
        to: entry.to.to_string(),
        ports: entry.ports.iter().map(ToString::to_string).collect(),
        translated: entry.translated.iter().map(ToString::to_string).collect(),
        tools: entry.tools.clone(),
        status: entry.status,
        expired: entry.has_expired(common.today()),
        in_force: entry.is_in_force(common.today()),
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        approved: entry.approved,
        expires: entry.expires,
        reference: entry.reference.clone(),
        findings: found(entry, seen, common),
        acknowledged: entry.acknowledged.clone(),
        ranges: Vec::new(),
        observed: seen.map(Observed::from),
    }
}

/// What is found now, and what the entry says beside it.
fn found(entry: &Entry, seen: Option<&Summary>, common: &Common) -> Vec<Finding> {
    let subject = Subject {
        entry,
        seen,
        limits: common.limits(),
    };
    let rules = risk::findings(&subject);
    let written = entry.findings.iter();
    let only_written = written.filter(|id| rules.iter().all(|rule| rule.id != id.as_str()));
    let others = only_written.map(|id| Finding {
        id: id.clone(),
        severity: risk::rule(id).map(|rule| rule.severity),
    });
    let now = rules.iter().map(|rule| Finding {
        id: rule.id.to_owned(),
        severity: Some(rule.severity),
    });
    let mut all: Vec<Finding> = now.chain(others).collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
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
            self.ranges.first().cloned().unwrap_or_default(),
            findings.join(" "),
        ]
        .map(|cell| terminal::escape(&cell))
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
