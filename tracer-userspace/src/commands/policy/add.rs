//! `policy add`: an entry that nobody has observed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Common, More, decide};
use crate::{
    output::{original::Original, terminal},
    policy::{
        decision::{Decision, Ruling},
        document,
        model::{Entry, Policy, Service, Target},
        published::Published,
    },
};

const EXAMPLES: &str = "\
Examples:
  # Something to decide on later
  egress-tracer policy add policy.toml api.example.com --port 443/tcp

  # Decided at once, in a policy that does not exist yet
  egress-tracer policy add policy.toml 198.51.100.0/28 --port 443/tcp --workload shop_agent \\
    --reason 'from the threat model' --owner platform-security";

/// Write an entry by hand: a candidate, or approved if there are --reason and --owner
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub(super) struct Add {
    /// The policy
    policy: PathBuf,

    /// An address, a network, a published range such as aws:S3:us-east-1, an exact host name, or
    /// *.NAME
    to: Target,

    /// What is allowed there, such as 443/tcp or icmp/echo-request; may be repeated
    #[arg(long, required = true, value_name = "PORT/PROTOCOL")]
    port: Vec<Service>,

    /// For this agent tool only; may be repeated
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,

    /// Make a policy for this workload, if there is none
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,

    /// Why, in more than a word
    #[arg(long, value_name = "TEXT", requires = "owner")]
    reason: Option<String>,

    /// Who answers for it
    #[arg(long, value_name = "WHO", requires = "reason")]
    owner: Option<String>,

    /// A finding that is accepted; may be repeated
    #[arg(long, value_name = "FINDING", requires = "reason")]
    acknowledge: Vec<String>,

    #[command(flatten)]
    more: More,
}

pub(super) fn add(arguments: &Add, common: &Common) -> anyhow::Result<()> {
    let original = Original::read(&arguments.policy)?;
    let text = match (original.text(), &arguments.workload) {
        (Some(text), _) => text.to_owned(),
        (None, Some(workload)) => document::fresh(workload, &[])?,
        (None, None) => bail!(
            "{} is not there; --workload NAME makes it",
            arguments.policy.display()
        ),
    };
    let place = || arguments.policy.display().to_string();
    let mut policy = document::parse(&text).with_context(place)?;
    let mut entry = entry(arguments);
    let judging = common.load_judging()?;
    if let Target::Published(range) = &mut entry.to {
        *range = Published::looked_up(range.tag.clone(), &judging.ranges);
    }
    refuse_double(&policy, &entry)?;
    let mut text = document::add(&text, &entry)?;
    let number = policy.entries.len();
    policy.entries.push(entry.clone());
    if let Some(decision) = decision(arguments, common) {
        decision.check(common.max_expiry.0, &judging.own)?;
        let subject = judging.subject(&entry, None);
        let chosen = [(number, decision.about(&subject)?)];
        text = decide::with_widths(&text, &policy, &[number], decision.ruling, &judging)?;
        text = document::decide(&text, &chosen, &decision)?;
    }
    original.replace(&text)?;
    let status = match arguments.reason {
        Some(_) => "approved",
        None => "a candidate",
    };
    terminal::tell(&format!("{}: {} added, {status}", place(), entry.to));
    Ok(())
}

fn entry(arguments: &Add) -> Entry {
    let mut ports = arguments.port.clone();
    ports.sort_unstable();
    ports.dedup();
    let mut tools = arguments.tool.clone();
    tools.sort_unstable();
    tools.dedup();
    Entry {
        tools: (!tools.is_empty()).then_some(tools),
        ..Entry::candidate(arguments.to.clone(), ports)
    }
}

fn decision(arguments: &Add, common: &Common) -> Option<Decision> {
    let (reason, owner) = (arguments.reason.clone()?, arguments.owner.clone()?);
    let today = common.today();
    Some(Decision {
        ruling: Ruling::Approve,
        reason,
        owner,
        on: today,
        expires: arguments.more.last_day(Ruling::Approve, today),
        reference: arguments.more.reference.clone(),
        acknowledged: arguments.acknowledge.clone(),
    })
}

fn refuse_double(policy: &Policy, new: &Entry) -> anyhow::Result<()> {
    let same = policy
        .entries
        .iter()
        .filter(|known| known.to == new.to && known.tools == new.tools);
    for known in same {
        if let Some(port) = new.ports.iter().find(|port| known.ports.contains(port)) {
            bail!(
                "{} {port} stands in the policy already ({}); use policy approve or deny",
                new.to,
                known.status.word()
            );
        }
    }
    Ok(())
}
