//! `render`: a reviewed policy in, rules out.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum as _};
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
        rules::{self, Rules, SeenAt},
    },
    record::Protocol,
    render::{Format, Naming, Options, RuleSet, Scope, Verdict},
    workload_name::tool_cgroup,
};

const EXAMPLES: &str = "\
Examples:
  # Rules that drop what nobody has approved
  egress-tracer render policy.toml --format nftables -o rules.nft

  # What they will be on New Year's Day, when some approvals have expired
  egress-tracer render policy.toml --format nftables --now 2027-01-01

  # What is approved for one tool: for commands in its cgroup, as `mark --cgroup` starts them
  egress-tracer render policy.toml --format nftables --cgroup agent.slice --per-tool

  # For Kubernetes
  egress-tracer render policy.toml --format cilium --pod-label app=shop

Exit codes: 0 done; 1 nothing is approved, rules by name have no approved resolver, or the format
cannot say everything (with --exact); 2 bad usage or input; 3 the evidence is incomplete. Only with 0
something was written.";

/// What rules per tool are about.
const PER_TOOL: &str = "Entries for a tool hold for what runs in the tool's cgroup, as \
    `egress-tracer mark --cgroup TOOL -- COMMAND` starts it. What a tool does inside of its agent's \
    own process is the agent's: these entries do not hold for it.";

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

    /// Entries for certain tools too, for what runs in the tool's cgroup below --cgroup, where
    /// `mark --cgroup` starts it (nftables)
    #[arg(long, requires = "cgroup")]
    per_tool: bool,

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
    refuse_per_tool(arguments)?;
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
    check_tools(&rules, &options)?;
    let breadth = aggregate::tell_breadth(&mut rules);
    generate::tell_breadth(&rules.workload, &breadth);
    warn(&mut rules, &policy, &options, arguments);
    let rendered = format.backend().render(&rules, &options);
    generate::tell_omissions(&rendered.omissions, arguments.rules.exact)?;
    let has_rules = rules.parts().any(|part| !part.rules.is_empty());
    let has_addresses = format.takes_addresses() && has_rules;
    let has_named = rules.parts().any(|part| !part.names.is_empty());
    let has_names = format.naming(&options) != Naming::Addresses && has_named;
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

/// Tools are told by cgroups, and cgroups by nftables.
fn refuse_per_tool(arguments: &RenderArgs) -> anyhow::Result<()> {
    if !arguments.per_tool || arguments.format == Format::Nftables {
        return Ok(());
    }
    let format = arguments.format.to_possible_value();
    let format = format.as_ref().map_or("", |value| value.get_name());
    Err(anyhow!(
        "--per-tool: {format} cannot tell one tool from another; nftables can, by cgroup"
    ))
}

/// Whether the tools' cgroups can be matched.
fn check_tools(rules: &RuleSet, options: &Options) -> anyhow::Result<()> {
    let Scope::Cgroup { path } = &options.scope else {
        return Ok(());
    };
    rules.tools.iter().try_for_each(|each| {
        let path = format!("{path}/{}", tool_cgroup(&each.tool));
        let scope = Scope::Cgroup { path };
        let options = Options {
            scope,
            ..options.clone()
        };
        options.check().map_err(anyhow::Error::from)
    })
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
    let make = |policy: &Policy| -> Rules {
        match arguments.include_unreviewed {
            true => rules::with_candidates(policy, &evidence, seen_at, today),
            false => rules::reviewed(policy, &evidence, seen_at, today),
        }
    };
    let made = match arguments.per_tool {
        true => rules::per_tool(policy, make),
        false => make(policy),
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
    if arguments.format == Format::Nftables && rules.parts().any(|part| !part.names.is_empty()) {
        let per_tool = if rules.tools.is_empty() {
            ""
        } else {
            " --per-tool"
        };
        rules.warnings.push(format!(
            "Rules by name: their sets are empty until `egress-tracer names POLICY{per_tool} \
             --nft-table {}`, or dnsmasq, fills them.",
            options.table
        ));
    }
    if !rules.tools.is_empty() {
        rules.warnings.push(PER_TOOL.to_owned());
    }
    let ends = ends(rules, options, arguments.format);
    rules.warnings.extend(ends);
    for warning in &rules.warnings {
        terminal::tell(&format!("note: {warning}"));
    }
}

/// When the first approvals are over, and what becomes of the rules then.
fn ends(rules: &RuleSet, options: &Options, format: Format) -> Vec<String> {
    let by_address = rules.parts().flat_map(|part| &part.rules);
    let by_address = by_address.filter_map(|rule| rule.expires).min();
    let by_name = rules.parts().flat_map(|part| &part.names);
    let by_name = by_name.filter_map(|rule| rule.expires).min();
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
