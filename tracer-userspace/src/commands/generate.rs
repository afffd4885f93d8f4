//! `generate`: logs in, candidate policy or candidate rules out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    cli::{Format, Generate},
    commands::{Failure, policy_file},
    import::{self, Imported},
    output::{files, original::Original, terminal},
    policy::{
        CandidateFiles, Observations,
        candidates::{self, Existing},
        document,
    },
    record::Severity,
    render::{self, Options, Verdict},
    workload_name,
};

/// How many of a kind are spelled out.
const SHOWN: usize = 20;
/// What merged workloads are called where nobody says.
const MERGED: &str = "merged";

/// Reads every input before anything is written, so that a failure leaves all as it was.
pub(super) fn generate(arguments: &Generate) -> Result<(), Failure> {
    let options = arguments
        .rules
        .options(Verdict::Log)
        .map_err(anyhow::Error::from)?;
    let output = Output::of(arguments)?;
    let imported = read(arguments)?;
    let chosen = choose(&imported, arguments, &output)?;
    chosen.iter().for_each(tell_notes);
    refuse_incomplete(&chosen, arguments.allow_incomplete)?;
    let making = Making {
        options,
        prune: arguments.prune,
    };
    write(&chosen, &output, &making)?;
    Ok(())
}

/// How the files are made.
struct Making {
    options: Options,
    /// Take out candidates that were not seen.
    prune: bool,
}

/// What is to be written in the place of a policy that stands there, or does not.
struct Made {
    original: Original,
    files: CandidateFiles,
}

/// Where the candidates go.
#[derive(Debug)]
enum Output {
    Policy(Option<PathBuf>),
    Rules(render::Format, Option<PathBuf>),
    Directory(PathBuf),
}

impl Output {
    fn of(arguments: &Generate) -> anyhow::Result<Self> {
        let path = arguments
            .output
            .clone()
            .filter(|path| path.as_os_str() != "-");
        if let Some(directory) = path.as_ref().filter(|path| names_directory(path)) {
            if arguments.format.is_some() {
                bail!(
                    "-o {} is a directory, which gets every format; leave --format out, or name a file",
                    directory.display()
                );
            }
            return Ok(Self::Directory(directory.clone()));
        }
        Ok(match arguments.format.and_then(Format::rules) {
            Some(format) => Self::Rules(format, path),
            None => Self::Policy(path),
        })
    }
}

fn names_directory(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    path.is_dir()
        || text
            .last()
            .is_some_and(|last| std::path::is_separator(char::from(*last)))
}

fn read(arguments: &Generate) -> anyhow::Result<Imported> {
    let settings = import::Settings {
        workload: arguments.workload.clone(),
        strict: arguments.strict,
        max_destinations: arguments.max_destinations,
    };
    let inputs = import::find(&arguments.inputs)?;
    let imported = import::import(&inputs, &settings)?;
    for problem in imported.problems.shown() {
        terminal::tell(&format!("skipped {problem}"));
    }
    let hidden = imported.problems.count() - imported.problems.shown().len() as u64;
    if hidden > 0 {
        terminal::tell(&format!("skipped {hidden} more line(s)"));
    }
    tell_list("note: ", &imported.notes);
    Ok(imported)
}

/// The workloads that the output is for.
fn choose(
    imported: &Imported,
    arguments: &Generate,
    output: &Output,
) -> anyhow::Result<Vec<Observations>> {
    let mut found = imported.workloads.resolve();
    if arguments.merge_workloads {
        let name = arguments.workload.as_deref().unwrap_or(MERGED);
        let mut merged = Observations::new(name, arguments.max_destinations);
        found.values().for_each(|workload| merged.merge(workload));
        return Ok(vec![merged]);
    }
    match &arguments.workload {
        Some(name) => match found.remove(imported.workloads.final_name(name)) {
            Some(workload) => Ok(vec![workload]),
            None => Err(anyhow!(
                "no record of workload {name}; the input has {}",
                listed(&found)
            )),
        },
        None if found.len() > 1 && !matches!(output, Output::Directory(_)) => Err(anyhow!(
            "the input has {} workloads; choose one with --workload NAME, join them with \
             --merge-workloads, or write a folder each with -o DIR/: {}",
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

fn write(chosen: &[Observations], output: &Output, making: &Making) -> anyhow::Result<()> {
    match (output, chosen) {
        (Output::Policy(path), [one]) => write_policy(one, path.as_deref(), making),
        (Output::Rules(format, path), [one]) => {
            let rendered = candidates::candidate_rules(one, *format, &making.options)?;
            tell_list("not in the rules: ", &rendered.omissions);
            write_text(path.as_deref(), &rendered.text)
        }
        (Output::Directory(directory), [one]) => {
            let made = make(one, &directory.join("policy.toml"), making)?;
            write_folder(directory, &made)
        }
        (Output::Directory(directory), many) => write_folders(directory, many, making),
        // choose() leaves one workload for what is no directory.
        (Output::Policy(_) | Output::Rules(..), _) => bail!("the output is for one workload"),
    }
}

fn write_policy(
    observations: &Observations,
    path: Option<&Path>,
    making: &Making,
) -> anyhow::Result<()> {
    let Some(path) = path.filter(|path| !files::is_special(path)) else {
        let made = candidates::candidates_with(observations, None, &making.options)?;
        return write_text(path, &made.policy);
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} names no file", path.display()))?;
    let evidence = Path::new(name).with_extension("evidence.json");
    let evidence = evidence.to_string_lossy();
    let made = make(observations, path, making)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    tell_list("stale: ", &made.files.stale);
    let _claim = made.original.claim()?;
    files::write_all(
        directory,
        &[
            (name, &made.files.policy),
            (&evidence, &made.files.evidence),
        ],
    )?;
    Ok(())
}

/// A folder for each workload; all of them are made before any is written.
fn write_folders(
    directory: &Path,
    workloads: &[Observations],
    making: &Making,
) -> anyhow::Result<()> {
    let made = workloads
        .iter()
        .map(|observations| {
            let folder = directory.join(workload_name::encode(observations.workload()));
            let made = make(observations, &folder.join("policy.toml"), making)?;
            Ok((folder, made))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    made.iter()
        .try_for_each(|(folder, made)| write_folder(folder, made))
}

fn write_folder(folder: &Path, made: &Made) -> anyhow::Result<()> {
    tell_list("not in the rules: ", &made.files.omitted);
    tell_list("stale: ", &made.files.stale);
    let _claim = made.original.claim()?;
    files::write_all(folder, &made.files.named())?;
    Ok(())
}

/// The candidate files, merged with the policy that stands at `path`.
fn make(observations: &Observations, path: &Path, making: &Making) -> anyhow::Result<Made> {
    let original = Original::read(path)?;
    let place = || path.display().to_string();
    let bases = match original.text() {
        Some(text) => policy_file::bases(path, &document::parse(text).with_context(place)?)?,
        None => Vec::new(),
    };
    // Figures can be made again: what cannot be read is not worth stopping for.
    let earlier = policy_file::evidence(path).unwrap_or_else(|error| {
        terminal::tell(&format!("note: {error:#}; it is written anew"));
        None
    });
    let existing = original.text().map(|text| Existing {
        text,
        bases: &bases,
        earlier: earlier.as_ref(),
        prune: making.prune,
    });
    let files =
        candidates::candidates_with(observations, existing, &making.options).with_context(place)?;
    Ok(Made { original, files })
}

fn write_text(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => files::write(path, text)?,
        None => terminal::data(text).context("cannot write to standard output")?,
    }
    Ok(())
}

/// The first few of a list, a line each.
fn tell_list(prefix: &str, items: &[String]) {
    for item in items.iter().take(SHOWN) {
        terminal::tell(&format!("{prefix}{item}"));
    }
    if let Some(more) = items.len().checked_sub(SHOWN + 1) {
        terminal::tell(&format!("{prefix}and {} more", more + 1));
    }
}
