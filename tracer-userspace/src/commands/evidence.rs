//! What verbs that read logs have in common: reading, choosing a workload, refusing what is
//! incomplete.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::anyhow;

use crate::{
    cli::InputFlags,
    commands::{Failure, progress::Progress, spans_file},
    import::{self, Imported},
    output::terminal,
    policy::Observations,
    record::Severity,
};

/// How many of a kind are spelled out.
const SHOWN: usize = 20;
/// What merged workloads are called where nobody says.
const MERGED: &str = "merged";

/// The workloads that were asked for; more than one only where the verb takes `several`.
pub(super) fn chosen(arguments: &InputFlags, several: bool) -> Result<Vec<Observations>, Failure> {
    chosen_for(Wanted::Figures, arguments, several)
}

/// What is to be made of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Evidence that names them.
    Evidence,
    /// Whatever does not say which ones they were.
    Figures,
}

/// The same, for who writes evidence or does not.
pub(super) fn chosen_for(
    wanted: Wanted,
    arguments: &InputFlags,
    several: bool,
) -> Result<Vec<Observations>, Failure> {
    if arguments.inputs.is_empty() {
        let missing = anyhow!("no INPUT: name the logs to read, or - for standard input");
        return Err(missing.into());
    }
    let imported = read(arguments, wanted)?;
    let chosen = choose(imported, arguments, several)?;
    chosen.iter().for_each(tell_notes);
    refuse_incomplete(&chosen, arguments.allow_incomplete)?;
    Ok(chosen)
}

fn read(arguments: &InputFlags, wanted: Wanted) -> anyhow::Result<Imported> {
    let settings = import::Settings {
        workload: arguments.workload.clone(),
        strict: arguments.strict,
        max_destinations: arguments.max_destinations,
        local: arguments.local.clone(),
        runs: arguments.runs,
        identified: wanted == Wanted::Evidence,
        spans: Arc::new(spans_file::read(&arguments.spans)?),
        ..import::Settings::default()
    };
    let inputs = import::find(&arguments.inputs)?;
    let imported = {
        let _bar = Progress::begin(&inputs, &settings.read);
        import::import(&inputs, &settings)?
    };
    for problem in imported.problems.shown() {
        terminal::tell(&format!("skipped {problem}"));
    }
    let hidden = imported.problems.count() - imported.problems.shown().len() as u64;
    if hidden > 0 {
        terminal::tell(&format!("skipped {hidden} more line(s) or packet(s)"));
    }
    tell_list("note: ", &imported.notes);
    Ok(imported)
}

/// The workloads that the output is for.
fn choose(
    imported: Imported,
    arguments: &InputFlags,
    several: bool,
) -> anyhow::Result<Vec<Observations>> {
    let asked = arguments.workload.as_deref();
    let final_name = asked.map(|name| imported.workloads.final_name(name).to_owned());
    let mut found = imported.workloads.into_resolved();
    if arguments.merge_workloads {
        let name = arguments.workload.as_deref().unwrap_or(MERGED);
        let mut merged = Observations::new(name, arguments.max_destinations);
        found.values().for_each(|workload| merged.merge(workload));
        return Ok(vec![merged]);
    }
    match final_name {
        Some(name) => match found.remove(&name) {
            Some(workload) => Ok(vec![workload]),
            None => Err(anyhow!(
                "no record of workload {}; the input has {}",
                asked.unwrap_or_default(),
                listed(&found)
            )),
        },
        None if found.len() > 1 && !several => Err(anyhow!(
            "the input has {} workloads; choose one with --workload NAME, join them with \
             --merge-workloads, or (generate) write a folder each with -o DIR/: {}",
            found.len(),
            listed(&found)
        )),
        None => Ok(found.into_values().collect()),
    }
}

fn listed(workloads: &BTreeMap<String, Observations>) -> String {
    let names: Vec<&str> = workloads.keys().take(SHOWN).map(String::as_str).collect();
    let rest = match workloads.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{rest}", names.join(", "))
}

/// What is worth knowing about the evidence and no reason to stop.
fn tell_notes(observations: &Observations) {
    let workload = observations.workload();
    for (hook, unseen) in observations.missing_hooks() {
        terminal::tell(&format!(
            "note: {workload}: the kernel lacked {hook}: {unseen}"
        ));
    }
    let details: u64 = observations
        .gaps()
        .filter(|(severity, ..)| *severity == Severity::Detail)
        .map(|(_, _, tally)| tally.records)
        .sum();
    if details > 0 {
        let what = "names, processes or counts are uncertain";
        terminal::tell(&format!(
            "note: {workload}: {details} gap record(s) say that {what}"
        ));
    }
    if observations.destinations().len() == 0 {
        terminal::tell(&format!("note: {workload}: no candidate destination"));
    }
}

fn refuse_incomplete(chosen: &[Observations], is_allowed: bool) -> Result<(), Failure> {
    let reasons: Vec<String> = chosen
        .iter()
        .filter(|observations| !observations.incomplete().is_empty())
        .map(|observations| {
            let reasons = observations.incomplete().join("; ");
            format!(
                "the evidence of {} is incomplete: {reasons}",
                observations.workload()
            )
        })
        .collect();
    if reasons.is_empty() {
        return Ok(());
    }
    if is_allowed {
        tell_list("warning: ", &reasons);
        return Ok(());
    }
    Err(Failure::Incomplete(format!(
        "{}. Nothing was written; --allow-incomplete writes it all the same, and marks it",
        reasons.join(". ")
    )))
}

/// The first few of a list, a line each.
pub(super) fn tell_list(prefix: &str, items: &[String]) {
    for item in items.iter().take(SHOWN) {
        terminal::tell(&format!("{prefix}{item}"));
    }
    if let Some(more) = items.len().checked_sub(SHOWN + 1) {
        terminal::tell(&format!("{prefix}and {} more", more + 1));
    }
}
