//! `replay`: which observed flows a policy would deny, and what else it opens.

use std::fs;

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use crate::{
    analysis::replay::{self, Judged},
    cli::Replay,
    commands::{Failure, evidence, policy_file},
    harmless,
    output::terminal,
    policy::{
        Observations, aggregate, document, include, infer,
        model::{Entry, Policy, Status},
        rules::{self, SeenAt},
    },
    ranges_file,
    render::RuleSet,
};

/// The value of the JSON's `schema` key.
const SCHEMA: &str = "egress-tracer/replay/1";

#[derive(Serialize)]
struct Report<'r> {
    schema: &'static str,
    workload: &'r str,
    complete: bool,
    #[serde(flatten)]
    replay: &'r replay::Replay,
}

/// Prints what would be denied and what is open; "no" if anything would be denied.
pub(super) fn replay(arguments: &Replay) -> Result<(), Failure> {
    let policy = read(arguments)?;
    let mut observed = evidence::chosen(&arguments.input, true)?;
    let observations = match observed
        .iter()
        .position(|each| each.workload() == policy.workload)
    {
        Some(at) => observed.swap_remove(at),
        None if observed.len() == 1 => observed.swap_remove(0),
        None => {
            return Err(anyhow!(
                "no record of workload {:?}, for which the policy is; choose another one with \
                 --workload NAME",
                policy.workload
            )
            .into());
        }
    };
    let rules = rules(&policy, &observations, arguments);
    let for_tools = for_tools(&policy, arguments);
    let replay = replay::replay(&rules, &for_tools, &observations);
    let text = if arguments.json {
        let report = Report {
            schema: SCHEMA,
            workload: observations.workload(),
            complete: observations.incomplete().is_empty(),
            replay: &replay,
        };
        harmless::pretty_json(&report).context("cannot write JSON")? + "\n"
    } else {
        text(&replay)
    };
    terminal::data(&text).context("cannot write to standard output")?;
    match replay.denied.len() {
        0 => Ok(()),
        denied => Err(Failure::No(format!(
            "{denied} of {} observed destination(s) would be denied",
            replay.destinations
        ))),
    }
}

fn read(arguments: &Replay) -> anyhow::Result<Policy> {
    let path = arguments.policy.display();
    let text =
        fs::read_to_string(&arguments.policy).with_context(|| format!("cannot read {path}"))?;
    let policy = document::parse(&text).with_context(|| path.to_string())?;
    let bases = policy_file::bases(&arguments.policy, &policy)?;
    let mut policy = include::joined(&policy, &bases);
    policy.look_up(&ranges_file::load_for(
        [&policy],
        arguments.ranges.as_deref(),
    )?);
    Ok(policy)
}

/// The rules that would be rendered for the workload's own network namespace.
fn rules(policy: &Policy, observations: &Observations, arguments: &Replay) -> RuleSet {
    let evidence = infer::evidence(observations);
    let made = if arguments.include_unreviewed {
        rules::unreviewed(policy, &evidence, SeenAt::Output)
    } else {
        let today = policy_file::today(arguments.now);
        rules::reviewed(policy, &evidence, SeenAt::Output, today)
    };
    aggregate::aggregate(made.set, &arguments.aggregate)
}

/// What is approved for certain tools. A denial for any tool wins.
fn for_tools<'p>(policy: &'p Policy, arguments: &Replay) -> Vec<&'p Entry> {
    let today = policy_file::today(arguments.now);
    let denied = |to: &Entry| {
        policy.entries.iter().any(|entry| {
            let overlaps = entry.to.covers(&to.to) || to.to.covers(&entry.to);
            entry.status == Status::Denied && overlaps
        })
    };
    let entries = policy.entries.iter();
    entries
        .filter(|entry| entry.tools.is_some() && entry.is_in_force(today) && !denied(entry))
        .collect()
}

fn text(replay: &replay::Replay) -> String {
    let mut lines = vec![format!(
        "{} destination(s) observed: {} allowed, {} denied, {} by ICMP type",
        replay.destinations,
        replay.allowed,
        replay.denied.len(),
        replay.uncertain.len()
    )];
    let mut part = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(format!("{title}:"));
            lines.extend(items.iter().map(|item| format!("  {item}")));
        }
    };
    part("would be denied", replay.denied.iter().map(line).collect());
    part(
        "depends on the ICMP type, which the log does not say",
        replay.uncertain.iter().map(line).collect(),
    );
    let unused = |rule: &replay::Unused| format!("{} {}", rule.to, rule.service);
    part("never used", replay.unused.iter().map(unused).collect());
    let wide = |rule: &replay::Wide| {
        format!(
            "{} {}: {} of {} addresses observed",
            rule.to, rule.service, rule.observed, rule.opened
        )
    };
    part(
        "open to more than was observed",
        replay.also_open.iter().map(wide).collect(),
    );
    part(
        "approved for a tool, which only rules per tool can tell",
        replay.by_tool.iter().map(line).collect(),
    );
    part("allowed by name", replay.by_name.clone());
    part("names never used", replay.unused_names.clone());
    part("not in the rules", replay.left_out.clone());
    lines
        .iter()
        .map(|line| terminal::escape(line) + "\n")
        .collect()
}

fn line(judged: &Judged) -> String {
    let left = match judged.translated.as_slice() {
        [] => String::new(),
        places => format!(" ({})", places.join(", ")),
    };
    let names = match judged.names.as_slice() {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    let tool = judged.tool.as_ref();
    let tool = tool.map_or_else(String::new, |tool| format!("  tool {tool}"));
    format!(
        "{}{names} {}{left}{tool}  {} connection(s) in {} run(s)  {}",
        judged.to,
        judged.service,
        judged.connections,
        judged.runs,
        judged.processes.join(", ")
    )
}
