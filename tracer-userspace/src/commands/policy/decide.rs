//! `policy approve` and `policy deny`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::{Common, Judging, Words, expand};
use crate::{
    analysis::summary::{Summaries, Summary},
    commands::policy_file::PolicyFile,
    output::terminal,
    policy::{
        decision::{Decision, Ruling},
        document,
        model::{Entry, Policy, Target},
        selector,
    },
};

/// Allow an entry's destinations until a day, for a reason
#[derive(Debug, Args)]
pub(super) struct Approve {
    #[command(flatten)]
    entries: Entries,

    #[command(flatten)]
    words: Words,

    /// A finding that is accepted: needed for wildcards, wide networks and critical findings. May
    /// be repeated
    #[arg(long, value_name = "FINDING")]
    acknowledge: Vec<String>,

    /// Approve published ranges around the addresses (--ranges) instead of the addresses
    /// themselves, which leave the policy; says how many addresses that opens
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "tag"
    )]
    expand: Option<Expand>,
}

/// What is approved in place of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Expand {
    /// The tag that opens least, such as aws:S3:us-east-1: its networks are looked up when rules
    /// are made
    Tag,
    /// The narrowest network that is published around each, as it is today
    Network,
}

/// Refuse an entry's destinations, whatever else allows them
#[derive(Debug, Args)]
pub(super) struct Deny {
    #[command(flatten)]
    entries: Entries,

    #[command(flatten)]
    words: Words,
}

#[derive(Debug, Args)]
struct Entries {
    /// The policy
    policy: PathBuf,

    /// The entries: a destination as the policy spells it, or DESTINATION#N for the N-th entry of
    /// that destination
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<String>,
}

pub(super) fn approve(arguments: &Approve, common: &Common) -> anyhow::Result<()> {
    let decision =
        arguments
            .words
            .decision(Ruling::Approve, &arguments.acknowledge, common.today());
    let write: Write = match arguments.expand {
        Some(Expand::Tag) => expand::write_tags,
        Some(Expand::Network) => expand::write_networks,
        None => write,
    };
    decide(&arguments.entries, &decision, common, write)
}

pub(super) fn deny(arguments: &Deny, common: &Common) -> anyhow::Result<()> {
    let decision = arguments.words.decision(Ruling::Deny, &[], common.today());
    decide(&arguments.entries, &decision, common, write)
}

/// How a decision gets into the policy's text.
type Write = fn(&PolicyFile, &[usize], &Decision, &Judging) -> anyhow::Result<String>;

/// All of the entries are decided, or none.
fn decide(
    chosen: &Entries,
    decision: &Decision,
    common: &Common,
    write: Write,
) -> anyhow::Result<()> {
    let judging = common.load_judging()?;
    decision.check(common.max_expiry.0, &judging.own)?;
    let file = PolicyFile::read(&chosen.policy, common.ranges.as_deref())?;
    let mut numbers = chosen
        .entries
        .iter()
        .map(|entry| selector::select(&file.policy, entry))
        .collect::<Result<Vec<usize>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    let decided = write(&file, &numbers, decision, &judging)?;
    file.original.replace(&decided)?;
    for index in numbers {
        tell(
            &file.path,
            &selector::name_of(&file.policy, index),
            decision,
        );
    }
    Ok(())
}

/// The policy's text with the decision in it.
pub(super) fn write(
    file: &PolicyFile,
    numbers: &[usize],
    decision: &Decision,
    judging: &Judging,
) -> anyhow::Result<String> {
    let summaries = file.evidence.as_ref().map(Summaries::new);
    let (mut chosen, mut shown) = (Vec::with_capacity(numbers.len()), Vec::new());
    for &index in numbers {
        let entry = &file.policy.entries[index];
        let seen = summaries.as_ref().and_then(|all| all.of(entry));
        let subject = judging.subject(entry, seen.as_ref());
        chosen.push((index, decision.about(&subject)?));
        shown.extend(seen.and_then(|seen| Some((index, processes(entry, &seen)?))));
    }
    let mut text = with_widths(&file.text, &file.policy, numbers, decision.ruling, judging)?;
    for (index, processes) in shown.iter().filter(|_| decision.ruling == Ruling::Approve) {
        text = document::set_processes(&text, *index, processes)?;
    }
    Ok(document::decide(&text, &chosen, decision)?)
}

/// Who was seen there, for an approval that covers what was shown. `None` if it says that already, or
/// the evidence does not know everyone.
fn processes(entry: &Entry, seen: &Summary) -> Option<Vec<String>> {
    let is_known = entry.processes.is_none() && !seen.more_processes && !seen.processes.is_empty();
    is_known.then(|| seen.processes.iter().cloned().collect())
}

/// `text` with how wide each chosen published range is: that, and no more, is decided on. An
/// approval of one that opens less than an entry may anyway leaves room up to there.
pub(super) fn with_widths(
    text: &str,
    policy: &Policy,
    numbers: &[usize],
    ruling: Ruling,
    judging: &Judging,
) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for &index in numbers {
        let to = &policy.entries[index].to;
        let Target::Published(range) = to else {
            continue;
        };
        if range.networks().is_empty() {
            bail!(
                "{to} is in no published list at hand (--ranges names the file of `ranges update`)"
            );
        }
        let opened = u64::try_from(to.addresses()).unwrap_or(u64::MAX);
        if ruling == Ruling::Approve {
            terminal::tell(&format!("{to}: opens {opened} address(es)"));
        }
        let most = opened.max(judging.limits.max_addresses);
        text = document::set_width(&text, index, range.list(), most)?;
    }
    Ok(text)
}

fn tell(path: &Path, name: &str, decision: &Decision) {
    let what = match (decision.ruling, decision.expires) {
        (Ruling::Approve, Some(day)) => format!("approved until {day}"),
        (Ruling::Approve, None) => "approved".to_owned(),
        (Ruling::Deny, _) => "denied".to_owned(),
    };
    terminal::tell(&format!("{}: {name} {what}", path.display()));
}
