//! `render`: a reviewed policy in, rules out.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use jiff::{Timestamp, civil::Date};

use super::{
    Failure,
    policy_file::{self, PolicyFile},
};
use crate::{
    cli::RuleFlags,
    output::{files, terminal},
    policy::{
        Observations, infer,
        model::{Entry, Policy, Service, Status, Target},
        rules::{self, Rules},
    },
    record::Protocol,
    render::{Format, Verdict},
};

const EXAMPLES: &str = "\
Examples:
  # Rules that drop what nobody has approved
  egress-tracer render policy.toml --format nftables -o rules.nft

  # What they will be on New Year's Day, when some approvals have expired
  egress-tracer render policy.toml --format nftables --now 2027-01-01

Exit codes: 0 done; 1 nothing is approved, or rules by name have no approved resolver; 2 bad usage or
input; 3 the evidence is incomplete and nothing was written.";

/// Reviewed policy in, rules out.
///
/// Only what is approved and has not expired becomes a rule. What no rule allows is dropped, unless
/// another --verdict is asked for.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct RenderArgs {
    /// The policy
    policy: PathBuf,

    /// The rule language
    #[arg(long, value_enum)]
    format: Format,

    /// A file; without it: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Candidates too, which nobody has approved; the output says so
    #[arg(long)]
    include_unreviewed: bool,

    /// Write although destinations may be missing from the evidence, and mark the output
    #[arg(long)]
    allow_incomplete: bool,

    /// The time to reckon with, instead of the clock's
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,

    #[command(flatten)]
    rules: RuleFlags,
}

pub(super) fn render(arguments: &RenderArgs) -> Result<(), Failure> {
    let options = arguments
        .rules
        .options(Verdict::Drop)
        .map_err(anyhow::Error::from)?;
    let today = policy_file::today(arguments.now);
    let file = PolicyFile::read(&arguments.policy)?;
    let policy = file.joined();
    tell_expired(&policy, today);
    refuse(&policy, today, arguments)?;
    let mut rules = rules(&file, &policy, today, arguments)?;
    warn(&mut rules, &policy, arguments);
    let rendered = arguments.format.backend().render(&rules.set, &options);
    for omission in rules.omitted.iter().chain(&rendered.omissions) {
        terminal::tell(&format!("not in the rules: {omission}"));
    }
    if rules.set.rules.is_empty() {
        return Err(Failure::No(
            "nothing that is approved can be said by address; nothing was written".to_owned(),
        ));
    }
    match arguments
        .output
        .as_ref()
        .filter(|path| path.as_os_str() != "-")
    {
        Some(path) => files::write(path, &rendered.text).map_err(anyhow::Error::from)?,
        None => terminal::data(&rendered.text).context("cannot write to standard output")?,
    }
    Ok(())
}

fn tell_expired(policy: &Policy, today: Date) {
    let approved = policy.entries.iter();
    let is_over = |entry: &&Entry| entry.status == Status::Approved && !entry.is_in_force(today);
    for entry in approved.filter(is_over) {
        let day = entry
            .expires
            .map_or_else(String::new, |day| format!(" on {day}"));
        terminal::tell(&format!("left out: {} expired{day}", entry.to));
    }
}

/// What must not become rules at all.
fn refuse(policy: &Policy, today: Date, arguments: &RenderArgs) -> Result<(), Failure> {
    let wanted = |entry: &&Entry| {
        entry.is_in_force(today)
            || (arguments.include_unreviewed && entry.status == Status::Candidate)
    };
    let chosen: Vec<&Entry> = policy.entries.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(Failure::No(format!(
            "{}: nothing is approved and in force; decide with `policy approve`, or see what the \
             rules would be with --include-unreviewed",
            arguments.policy.display()
        )));
    }
    let is_name = |entry: &&&Entry| matches!(entry.to, Target::Name(_) | Target::Wildcard(_));
    let Some(named) = chosen.iter().find(is_name) else {
        return Ok(());
    };
    let missing: Vec<String> = [Protocol::UDP, Protocol::TCP]
        .into_iter()
        .map(|protocol| Service::Port { protocol, port: 53 })
        .filter(|dns| !chosen.iter().any(|entry| answers(entry, dns)))
        .map(|dns| dns.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::No(format!(
        "{} is approved by name, and no resolver is: approve the one that the workload asks, for \
         53/udp and 53/tcp (missing: {})",
        named.to,
        missing.join(", ")
    )))
}

/// Whether an entry lets a resolver be asked.
fn answers(entry: &Entry, dns: &Service) -> bool {
    entry.to.network().is_some() && entry.ports.iter().any(|port| port.covers(dns))
}

fn rules(
    file: &PolicyFile,
    policy: &Policy,
    today: Date,
    arguments: &RenderArgs,
) -> Result<Rules, Failure> {
    let none = || infer::evidence(&Observations::new(&*policy.workload, 0));
    let evidence = file.evidence.clone().unwrap_or_else(none);
    if !evidence.complete && !arguments.allow_incomplete {
        return Err(Failure::Incomplete(format!(
            "the evidence of {} is incomplete: {}. Nothing was written; --allow-incomplete writes \
             it all the same, and marks it",
            arguments.policy.display(),
            evidence.incomplete.join(". ")
        )));
    }
    Ok(if arguments.include_unreviewed {
        rules::with_candidates(policy, &evidence, today)
    } else {
        rules::reviewed(policy, &evidence, today)
    })
}

/// What the output has to say at its top.
fn warn(rules: &mut Rules, policy: &Policy, arguments: &RenderArgs) {
    let candidates = policy.entries.iter();
    let is_open = |entry: &&Entry| entry.status == Status::Candidate;
    let open = candidates.filter(is_open).count();
    if arguments.include_unreviewed {
        let warning = format!(
            "UNREVIEWED RULES: nobody has approved {open} of these entries (--include-unreviewed). \
             Do not enforce them."
        );
        rules.set.warnings.insert(0, warning);
    }
    let first = rules.set.rules.iter().filter_map(|rule| rule.expires).min();
    let Some(first) = first else {
        return;
    };
    let warning = if arguments.format == Format::Nftables {
        format!(
            "Approvals expire, the first at the end of {first} (UTC): the rules then stop by themselves."
        )
    } else {
        format!(
            "The first approval expires at the end of {first} (UTC): these rules do not stop by themselves, render them again."
        )
    };
    rules.set.warnings.push(warning);
}
