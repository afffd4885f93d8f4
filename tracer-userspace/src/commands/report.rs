//! `report`: one page about what workloads talked to.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use jiff::{Timestamp, civil::Date};

use super::{
    Failure, evidence, findings_file, policies,
    policy_file::{self, PolicyFile},
};
use crate::{
    analysis::drift,
    cli::InputFlags,
    output::{files, terminal},
    policy::{Observations, evidence::Evidence, infer},
    ranges_file,
    report::page::{self, Judged, Page, Workload},
};

const EXAMPLES: &str = "\
Examples:
  # What did twenty runs talk to?
  egress-tracer report logs/ -o report.html

  # And where do they differ from what was reviewed?
  egress-tracer report logs/ -o report.html --policy policy.toml --now 2026-11-22

  # Every workload of a daemon, each against its policy in a folder of policies
  egress-tracer report /var/lib/egress-tracer -o report.html --policy policies/

Exit codes: 0 done; 2 bad usage or input; 3 the evidence is incomplete.";

/// A page of HTML about what workloads talked to.
///
/// It is complete in itself: no script, nothing that a browser would load. The same input gives the
/// same bytes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct ReportArgs {
    #[command(flatten)]
    input: InputFlags,

    /// The page [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Tell the drift from this policy, or from the policies of a directory: *.toml and
    /// */policy.toml
    #[arg(long, value_name = "FILE|DIR")]
    policy: Option<PathBuf>,

    /// Tell approvals that end within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    soon: u16,

    /// The file of `ranges update`, for the cloud networks that addresses are in
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,

    /// A file of findings of one's own, and of exceptions
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,

    /// The time to reckon with, shown on the page [default: approvals are looked at as of the last
    /// observation]
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,
}

pub(super) fn report(arguments: &ReportArgs) -> Result<(), Failure> {
    let policies = match &arguments.policy {
        Some(place) => policies::read(place, arguments.ranges.as_deref())?,
        None => BTreeMap::new(),
    };
    let ranges = ranges_file::load(arguments.ranges.as_deref()).map_err(anyhow::Error::from)?;
    let own = findings_file::load(
        arguments.findings.as_deref(),
        policy_file::today(arguments.now),
    )?;
    let chosen = evidence::chosen(&arguments.input, true)?;
    let workloads = chosen
        .iter()
        .map(|observations| workload(observations, &policies, arguments))
        .collect::<anyhow::Result<Vec<Workload<'_>>>>()?;
    let text = page::html(&Page {
        workloads,
        ranges: &ranges,
        own: &own,
        now: arguments.now,
    });
    match &arguments.output {
        Some(path) => files::write(path, &text).map_err(anyhow::Error::from)?,
        None => terminal::data(&text).context("cannot write to standard output")?,
    }
    Ok(())
}

fn workload<'o>(
    observations: &'o Observations,
    policies: &BTreeMap<String, PolicyFile>,
    arguments: &ReportArgs,
) -> anyhow::Result<Workload<'o>> {
    let file = policies.get(observations.workload());
    if file.is_none() && arguments.policy.is_some() {
        let name = observations.workload();
        terminal::tell(&format!("note: {name}: there is no policy for it"));
    }
    let judged = file.map(|file| judge(observations, file, arguments));
    Ok(Workload {
        observations,
        judged: judged.transpose()?,
    })
}

fn judge(
    observations: &Observations,
    file: &PolicyFile,
    arguments: &ReportArgs,
) -> anyhow::Result<Judged> {
    let evidence = infer::evidence(observations);
    let on = day(&evidence, arguments.now)?;
    Ok(Judged {
        policy: file.path.display().to_string(),
        on,
        drift: drift::drift(&file.joined(), &evidence, on, arguments.soon),
    })
}

/// No clock: a page that is made again is the same page.
fn day(evidence: &Evidence, now: Option<Timestamp>) -> anyhow::Result<Date> {
    let seen = evidence.destinations.iter();
    let last = seen.filter_map(|seen| seen.last_seen).max();
    now.or(last)
        .map(|time| policy_file::today(Some(time)))
        .ok_or_else(|| {
            anyhow!("the records carry no times: say with --now when approvals are to be looked at")
        })
}
