//! `policy list`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    Common,
    table::{self, Row},
};
use crate::{commands::policy_file::PolicyFile, harmless, output::terminal, policy::model::Status};

/// Show the entries, with findings and figures
#[derive(Debug, Args)]
pub(super) struct List {
    /// The policy
    policy: PathBuf,

    /// Only entries of this status; may be repeated
    #[arg(long, value_enum)]
    status: Vec<Wanted>,

    /// Only entries with this finding; may be repeated
    #[arg(long, value_name = "FINDING")]
    finding: Vec<String>,

    /// A list of objects, for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Candidate,
    /// Approved and in force
    Approved,
    Denied,
    /// Approved until a day that is over
    Expired,
    /// Approved, and a published range that opens more by now, or cannot be looked up
    Widened,
    /// Not denied, and never observed as far as the evidence tells
    Unobserved,
}

pub(super) fn list(arguments: &List, common: &Common) -> anyhow::Result<()> {
    let file = PolicyFile::read(&arguments.policy, common.ranges.as_deref())?;
    let mut rows = table::rows(&file, common)?;
    rows.retain(|row| arguments.wants(row));
    let text = if arguments.json {
        harmless::pretty_json(&rows)? + "\n"
    } else {
        table::text(&rows)
    };
    terminal::data(&text).context("cannot write to standard output")
}

impl List {
    fn wants(&self, row: &Row) -> bool {
        let status = self.status.is_empty() || self.status.iter().any(|wanted| wanted.is(row));
        let has = |id: &String| row.findings.iter().any(|finding| finding.id == *id);
        status && (self.finding.is_empty() || self.finding.iter().any(has))
    }
}

impl Wanted {
    fn is(self, row: &Row) -> bool {
        match self {
            Self::Candidate => row.status == Status::Candidate,
            Self::Approved => row.in_force,
            Self::Denied => row.status == Status::Denied,
            Self::Expired => row.expired,
            Self::Widened => row.status == Status::Approved && !row.expired && !row.in_force,
            Self::Unobserved => row.status != Status::Denied && row.observed.is_none(),
        }
    }
}
