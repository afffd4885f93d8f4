//! `render`: a reviewed policy in, rules out.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use jiff::{Timestamp, civil::Date};

use super::{
    Failure, generate,
    policy_file::{self, PolicyFile},
};
use crate::{
    cli::RuleFlags,
    output::{files, terminal},
    policy::{
        Observations, aggregate, infer,
        model::{Entry, Policy, Service, Status},
        rules::{self, SeenAt},
    },
    record::Protocol,
    render::{Format, Naming, Options, RuleSet, Verdict},
};

const EXAMPLES: &str = "\
Examples:
  # Rules that drop what nobody has approved
  egress-tracer render policy.toml --format nftables -o rules.nft

  # What they will be on New Year's Day, when some approvals have expired
  egress-tracer render policy.toml --format nftables --now 2027-01-01

  # For Kubernetes
  egress-tracer render policy.toml --format cilium --pod-label app=shop

Exit codes: 0 done; 1 nothing is approved, rules by name have no approved resolver, or the format
cannot say everything (with --exact); 2 bad usage or input; 3 the evidence is incomplete. Only with 0
something was written.";

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

    /// The file of `ranges update`, for published ranges in the policy
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,

    /// The time to reckon with, instead of the clock's
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,

    #[command(flatten)]
    rules: RuleFlags,
}

pub(super) fn render(arguments: &RenderArgs) -> Result<(), Failure> {
    let mut options = arguments
        .rules
        .options(Verdict::Drop)
        .map_err(anyhow::Error::from)?;
    let format = arguments.format;
    format
        .backend()
        .check(&options)
        .map_err(anyhow::Error::from)?;
    let today = policy_file::today(arguments.now);
    let file = PolicyFile::read(&arguments.policy, arguments.ranges.as_deref())?;
    let policy = file.joined();
    options.name_sets |= policy
        .entries
        .iter()
        .any(|entry| is_wanted_name(entry, today, arguments));
    tell_expired(&policy, today);
    file.tell_ranges(today);
    file.refuse_unknown_denials()?;
    refuse(&policy, today, &options, arguments)?;
    let mut rules = rules(&file, &policy, &options, arguments)?;
    let breadth = aggregate::tell_breadth(&mut rules);
    generate::tell_breadth(&rules.workload, &breadth);
    warn(&mut rules, &policy, &options, arguments);
    let rendered = format.backend().render(&rules, &options);
    generate::tell_omissions(&rendered.omissions, arguments.rules.exact)?;
    let has_addresses = format.takes_addresses() && !rules.rules.is_empty();
    let has_names = format.naming(&options) != Naming::Addresses && !rules.names.is_empty();
    if !has_addresses && !has_names {
        return Err(Failure::No(
            "nothing that is approved can be said in this format; nothing was written".to_owned(),
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

/// Whether nftables rules need a set for this entry.
fn is_wanted_name(entry: &Entry, today: Date, arguments: &RenderArgs) -> bool {
    let is_candidate = arguments.include_unreviewed && entry.status == Status::Candidate;
    entry.to.is_name() && (is_candidate || entry.is_in_force(today))
}

fn tell_expired(policy: &Policy, today: Date) {
    let approved = policy.entries.iter();
    let is_over = |entry: &&Entry| entry.has_expired(today);
    for entry in approved.filter(is_over) {
        let day = entry
            .expires
            .map_or_else(String::new, |day| format!(" on {day}"));
        terminal::tell(&format!("left out: {} expired{day}", entry.to));
    }
}

/// What must not become rules at all.
fn refuse(
    policy: &Policy,
    today: Date,
    options: &Options,
    arguments: &RenderArgs,
) -> Result<(), Failure> {
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
    // Where others resolve names for the workload, it need not ask.
    if arguments.format.naming(options) == Naming::Asked {
        return Ok(());
    }
    let Some(named) = chosen.iter().find(|entry| entry.to.is_name()) else {
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
    !entry.to.is_name() && entry.ports.iter().any(|port| port.covers(dns))
}

fn rules(
    file: &PolicyFile,
    policy: &Policy,
    options: &Options,
    arguments: &RenderArgs,
) -> Result<RuleSet, Failure> {
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
    let today = policy_file::today(arguments.now);
    let seen_at = SeenAt::of(arguments.format, &options.scope);
    let made = if arguments.include_unreviewed {
        rules::with_candidates(policy, &evidence, seen_at, today)
    } else {
        rules::reviewed(policy, &evidence, seen_at, today)
    };
    Ok(aggregate::aggregate(made.set, &arguments.rules.aggregate))
}

/// What the output has to say at its top; on standard error too, as not every format has comments.
fn warn(rules: &mut RuleSet, policy: &Policy, options: &Options, arguments: &RenderArgs) {
    let candidates = policy.entries.iter();
    let is_open = |entry: &&Entry| entry.status == Status::Candidate;
    let open = candidates.filter(is_open).count();
    if arguments.include_unreviewed {
        let warning = format!(
            "UNREVIEWED RULES: nobody has approved {open} of these entries (--include-unreviewed). \
             Do not enforce them."
        );
        rules.warnings.insert(0, warning);
    }
    if arguments.format == Format::Nftables && !rules.names.is_empty() {
        rules.warnings.push(format!(
            "Rules by name: their sets are empty until `egress-tracer names POLICY --nft-table {}`, \
             or dnsmasq, fills them.",
            options.table
        ));
    }
    let ends = ends(rules, options, arguments.format);
    rules.warnings.extend(ends);
    for warning in &rules.warnings {
        terminal::tell(&format!("note: {warning}"));
    }
}

/// When the first approvals are over, and what becomes of the rules then.
fn ends(rules: &RuleSet, options: &Options, format: Format) -> Vec<String> {
    let by_address = rules.rules.iter().filter_map(|rule| rule.expires).min();
    let by_name = rules.names.iter().filter_map(|rule| rule.expires).min();
    let says_names = format.naming(options) != Naming::Addresses;
    let by_name = by_name.filter(|_| says_names);
    let by_address = by_address.filter(|_| format.takes_addresses());
    let again = |first: Date| {
        format!(
            "The first approval expires at the end of {first} (UTC): these rules do not stop \
             by themselves, render them again."
        )
    };
    if format != Format::Nftables {
        let first = by_address.into_iter().chain(by_name).min();
        return first.map(again).into_iter().collect();
    }
    let stop = |first| {
        format!(
            "Approvals expire, the first at the end of {first} (UTC): the rules then stop by themselves."
        )
    };
    let first = by_address.into_iter().chain(by_name).min();
    first.map(stop).into_iter().collect()
}
