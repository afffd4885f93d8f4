//! `diff`: drift between a policy and what was observed, or between two policies.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{
    Failure,
    policy_file::{self, PolicyFile},
    spans_file,
};
use crate::{
    analysis::drift::{self, Drift, Level},
    cli, foreign,
    import::{self, Settings},
    output::terminal,
    policy::{Observations, Workloads, document, infer, model::Policy},
    report::{self, Form, Report},
};

const EXAMPLES: &str = "\
Examples:
  # Does anything go where nobody has approved it?
  egress-tracer diff policy.toml /var/lib/egress-tracer/agent-1

  # In a GitHub workflow
  egress-tracer diff policy.toml logs/ --format github

  # Does anything go where the rules in force, whoever wrote them, do not let it?
  nft -j list ruleset > in-force.json && egress-tracer diff in-force.json logs/ --workload agent-1

  # What has been decided since
  egress-tracer diff old.toml policy.toml

Exit codes: 0 nothing; 1 an observed destination that no approval in force covers (or, of two
policies, any difference); 2 bad usage or input; 3 the evidence is incomplete.";

/// What was observed against what was approved.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct DiffArgs {
    /// The policy (*.toml); or the list in force of another tool: `nft -j list ruleset`,
    /// iptables-save, a NetworkPolicy or CiliumNetworkPolicy, Squid's access lists, a workflow with
    /// Harden-Runner, names one a line
    policy: PathBuf,

    /// Logs, as for `generate`; or one other policy (*.toml), the newer one
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// The workload to look at, where the list in force names none
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,

    /// From which level on the exit code is 1
    #[arg(long, value_enum, default_value_t = Fail::Error)]
    fail_on: Fail,

    /// Tell approvals that end within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    soon: u16,

    /// Go on although destinations may be missing
    #[arg(long)]
    allow_incomplete: bool,

    /// Where the workload of a capture is, as for `generate`; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = cli::network)]
    local: Vec<IpNet>,

    /// What agents have exported by OpenTelemetry, as for `generate`: tells the tools of flows of which
    /// the log does not. May be repeated
    #[arg(long, value_name = "FILE")]
    spans: Vec<PathBuf>,

    /// Stop at the first line or packet that cannot be used
    #[arg(long)]
    strict: bool,

    /// The file of `ranges update`, for published ranges in the policy
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,

    /// The time to reckon with, instead of the clock's
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fail {
    /// Observed, and not covered by an approval in force
    Error,
    /// Also approvals that are stale or soon over
    Warning,
    /// Never
    Never,
}

pub(super) fn diff(arguments: &DiffArgs) -> Result<(), Failure> {
    if !is_policy(&arguments.policy) {
        return in_force(arguments);
    }
    let file = PolicyFile::read(&arguments.policy, arguments.ranges.as_deref())?;
    if let [other] = arguments.inputs.as_slice()
        && is_policy(other)
    {
        return compare(&file, other);
    }
    file.tell_ranges(policy_file::today(arguments.now));
    let observations = observe(&file.policy.workload, arguments)?;
    let lines = document::lines(&file.text).map_err(anyhow::Error::from)?;
    tell(&file.joined(), &lines, &observations, arguments)
}

/// The list in force is somebody else's: it is for whatever workload the logs are about.
fn in_force(arguments: &DiffArgs) -> Result<(), Failure> {
    let path = &arguments.policy;
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let observations = one(arguments)?;
    let list = foreign::read(&text, observations.workload())
        .with_context(|| path.display().to_string())?;
    let count = list.policy.entries.len();
    terminal::tell(&format!(
        "{}: {}, {count} destination(s)",
        path.display(),
        list.form
    ));
    for note in &list.notes {
        terminal::tell(&format!("note: {note}"));
    }
    tell(&list.policy, &[], &observations, arguments)
}

fn tell(
    policy: &Policy,
    lines: &[usize],
    observations: &Observations,
    arguments: &DiffArgs,
) -> Result<(), Failure> {
    let reasons = observations.incomplete();
    if !reasons.is_empty() && !arguments.allow_incomplete {
        return Err(Failure::Incomplete(format!(
            "{}. --allow-incomplete compares all the same",
            reasons.join(". ")
        )));
    }
    let today = policy_file::today(arguments.now);
    let evidence = infer::evidence(observations);
    let found = drift::drift(policy, &evidence, today, arguments.soon);
    let report = Report {
        workload: &policy.workload,
        policy: &arguments.policy.to_string_lossy(),
        drift: &found,
        lines: &of_each(lines, &found),
    };
    let text = report::text(&report, arguments.format).map_err(anyhow::Error::from)?;
    terminal::data(&text).context("cannot write to standard output")?;
    answer(&found, arguments.fail_on)
}

fn is_policy(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// What was observed of the policy's workload. A policy and a log of another name are compared
/// only if the log has no other workload.
fn observe(ours: &str, arguments: &DiffArgs) -> anyhow::Result<Observations> {
    let workloads = read(Some(ours), arguments)?;
    let mut found = workloads.resolve();
    found.remove(workloads.final_name(ours)).ok_or_else(|| {
        anyhow!(
            "no record of workload {ours}; the input has {}",
            names(&found)
        )
    })
}

/// What was observed of the one workload that there is, or that was asked for.
fn one(arguments: &DiffArgs) -> anyhow::Result<Observations> {
    if let Some(name) = &arguments.workload {
        return observe(name, arguments);
    }
    let mut found = read(None, arguments)?.resolve();
    match (found.pop_first(), found.len()) {
        (Some((_, only)), 0) => Ok(only),
        (Some((first, _)), _) => bail!(
            "the list names no workload, and the input has several; choose one with --workload: \
             {first}, {}",
            names(&found)
        ),
        (None, _) => bail!("the input has no workload"),
    }
}

fn read(workload: Option<&str>, arguments: &DiffArgs) -> anyhow::Result<Workloads> {
    let settings = Settings {
        workload: workload.map(str::to_owned),
        strict: arguments.strict,
        local: arguments.local.clone(),
        spans: Arc::new(spans_file::read(&arguments.spans)?),
        ..Settings::default()
    };
    if arguments.inputs.iter().any(|path| is_policy(path)) {
        bail!("a policy is compared with one other policy, or with logs");
    }
    let inputs = import::find(&arguments.inputs)?;
    let imported = import::import(&inputs, &settings)?;
    for problem in imported.problems.shown() {
        terminal::tell(&format!("skipped {problem}"));
    }
    for note in &imported.notes {
        terminal::tell(&format!("note: {note}"));
    }
    Ok(imported.workloads)
}

fn names(found: &BTreeMap<String, Observations>) -> String {
    let names: Vec<&str> = found.keys().take(20).map(String::as_str).collect();
    names.join(", ")
}

/// The line of the policy that each difference is about; 1 for what no entry of this file is about.
fn of_each(lines: &[usize], found: &[Drift]) -> Vec<usize> {
    let line = |each: &Drift| each.entry.and_then(|index| lines.get(index)).copied();
    found.iter().map(|each| line(each).unwrap_or(1)).collect()
}

/// The exit code says it.
fn answer(found: &[Drift], fail_on: Fail) -> Result<(), Failure> {
    let is_bad = |each: &Drift| match fail_on {
        Fail::Error => each.level == Level::Error,
        Fail::Warning => true,
        Fail::Never => false,
    };
    match found.iter().filter(|each| is_bad(each)).count() {
        0 => Ok(()),
        bad => Err(Failure::No(format!("{bad} difference(s) to decide on"))),
    }
}

fn compare(old: &PolicyFile, new: &Path) -> Result<(), Failure> {
    let new = PolicyFile::read(new, None)?;
    let changes = drift::changes(&old.policy, &new.policy);
    let text: String = changes
        .iter()
        .map(|line| terminal::escape(line) + "\n")
        .collect();
    terminal::data(&text).context("cannot write to standard output")?;
    match changes.len() {
        0 => Ok(()),
        count => Err(Failure::No(format!("{count} line(s) differ"))),
    }
}
