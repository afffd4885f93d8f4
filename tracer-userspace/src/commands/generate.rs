//! `generate`: logs or captures in, candidate policy or candidate rules out.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    cli::{Format, Generate},
    commands::{
        Failure, apart,
        evidence::{self, Wanted, tell_list},
        expand, policy_file, records,
    },
    import::{self, Input},
    output::{files, original::Original, terminal},
    policy::{
        CandidateFiles, Observations,
        aggregate::Breadth,
        candidates::{self, Existing, Making},
        document,
        evidence::Evidence,
        model::Policy,
    },
    ranges::Ranges,
    ranges_file,
    render::{self, Options, Verdict},
    workload_name,
};

/// Reads every input before anything is written, so that a failure leaves all as it was.
pub(super) fn generate(arguments: &Generate) -> Result<(), Failure> {
    if arguments.format == Some(Format::List) {
        terminal::data(&render::list()).context("cannot write to standard output")?;
        return Ok(());
    }
    let options = arguments
        .rules
        .options(Verdict::Log)
        .map_err(anyhow::Error::from)?;
    let output = Output::of(arguments)?;
    output.check(&options)?;
    let several = matches!(output, Output::Directory(_));
    let ranges = ranges(arguments)?;
    let expand = expand::ranges(&arguments.expand, &ranges)?;
    let mut chosen = evidence::chosen_for(output.wanted(), &arguments.input, several)?;
    tell_apart(&mut chosen, arguments.include_failed);
    expand::tell(&expand, &chosen);
    let asked = Asked {
        making: Making {
            options,
            aggregate: arguments.rules.aggregate.clone(),
            by: arguments.by,
            ranges,
            expand,
        },
        exact: arguments.rules.exact,
        prune: arguments.prune,
        records: match arguments.records {
            true => Some(import::find(&arguments.input.inputs).map_err(anyhow::Error::from)?),
            false => None,
        },
        is_merged: arguments.input.merge_workloads,
    };
    write(&chosen, &output, &asked)
}

/// What no rule will be about is not to be overlooked.
fn tell_apart(chosen: &mut [Observations], include_failed: bool) {
    for observations in chosen {
        let workload = observations.workload();
        for line in apart::lines(observations) {
            terminal::tell(&format!("{workload}: {line}"));
        }
        if include_failed {
            observations.include_failed();
        }
    }
}

/// Published ranges, where something may speak of them.
fn ranges(arguments: &Generate) -> anyhow::Result<Ranges> {
    let is_merged = arguments.output.as_ref().is_some_and(|path| path.exists());
    match is_merged || arguments.ranges.is_some() || !arguments.expand.is_empty() {
        true => Ok(ranges_file::load(arguments.ranges.as_deref())?),
        false => Ok(Ranges::default()),
    }
}

/// What is asked for beside the output.
struct Asked {
    making: Making,
    /// Write nothing that is not exact.
    exact: bool,
    /// Take out candidates that were not seen.
    prune: bool,
    /// The logs to point at, record by record.
    records: Option<Vec<Input>>,
    /// Records of other workloads count too.
    is_merged: bool,
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

impl Output {
    /// Rules do not say what they were made of.
    fn wanted(&self) -> Wanted {
        match self {
            Self::Rules(..) | Self::Policy(None) => Wanted::Figures,
            Self::Policy(Some(_)) | Self::Directory(_) => Wanted::Evidence,
        }
    }

    /// Whether the chosen rule language can do what the options ask for.
    fn check(&self, options: &Options) -> anyhow::Result<()> {
        match self {
            Self::Rules(format, _) => Ok(format.backend().check(options)?),
            Self::Policy(_) | Self::Directory(_) => Ok(()),
        }
    }
}

fn names_directory(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    path.is_dir()
        || text
            .last()
            .is_some_and(|last| std::path::is_separator(char::from(*last)))
}

fn write(chosen: &[Observations], output: &Output, asked: &Asked) -> Result<(), Failure> {
    match (output, chosen) {
        (Output::Policy(path), [one]) => write_policy(one, path.as_deref(), asked)?,
        (Output::Rules(format, path), [one]) => {
            let (rendered, breadth) = candidates::candidate_rules(one, *format, &asked.making)
                .map_err(anyhow::Error::from)?;
            tell_breadth(one.workload(), &breadth);
            tell_omissions(&rendered.omissions, asked.exact)?;
            write_text(path.as_deref(), &rendered.text)?;
        }
        (Output::Directory(directory), many) => write_folders(directory, many, asked)?,
        // choose() leaves one workload for what is no directory.
        (Output::Policy(_) | Output::Rules(..), _) => {
            return Err(anyhow!("the output is for one workload").into());
        }
    }
    Ok(())
}

/// Nothing is opened in silence.
pub(super) fn tell_breadth(workload: &str, breadth: &Breadth) {
    if breadth.wide > 0 {
        terminal::tell(&format!("{workload}: {breadth}"));
    }
}

/// What the rules do not say, or say wider. With `exact` there must be nothing.
pub(super) fn tell_omissions(omissions: &[String], exact: bool) -> Result<(), Failure> {
    tell_list("not in the rules: ", omissions);
    if exact && !omissions.is_empty() {
        return Err(Failure::No(format!(
            "{} thing(s) cannot be said exactly, and --exact was asked for: nothing was written",
            omissions.len()
        )));
    }
    Ok(())
}

fn write_policy(
    observations: &Observations,
    path: Option<&Path>,
    asked: &Asked,
) -> anyhow::Result<()> {
    let Some(path) = path.filter(|path| !files::is_special(path)) else {
        let made = candidates::candidates_with(observations, None, &asked.making)?;
        return write_text(path, &made.policy);
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} names no file", path.display()))?;
    let evidence = Path::new(name).with_extension("evidence.json");
    let evidence = evidence.to_string_lossy();
    let made = make(observations, path, asked)?;
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

/// One workload into the directory itself, several into a folder each; all of them are made before
/// any is written.
fn write_folders(
    directory: &Path,
    workloads: &[Observations],
    asked: &Asked,
) -> Result<(), Failure> {
    let folder = |observations: &Observations| match workloads {
        [_] => directory.to_owned(),
        _ => directory.join(workload_name::encode(observations.workload())),
    };
    let made = workloads
        .iter()
        .map(|observations| {
            let folder = folder(observations);
            let made = make(observations, &folder.join("policy.toml"), asked)?;
            Ok((folder, made))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    for (observations, (_, made)) in workloads.iter().zip(&made) {
        tell_breadth(observations.workload(), &made.files.breadth);
        tell_omissions(&made.files.omitted, asked.exact)?;
    }
    for (folder, made) in &made {
        write_folder(folder, made)?;
    }
    Ok(())
}

fn write_folder(folder: &Path, made: &Made) -> anyhow::Result<()> {
    tell_list("stale: ", &made.files.stale);
    let _claim = made.original.claim()?;
    files::write_all(folder, &made.files.named())?;
    Ok(())
}

/// The candidate files, merged with the policy that stands at `path`.
fn make(observations: &Observations, path: &Path, asked: &Asked) -> anyhow::Result<Made> {
    let original = Original::read(path)?;
    let place = || path.display().to_string();
    let bases = match original.text() {
        Some(text) => bases(path, text, &asked.making.ranges).with_context(place)?,
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
        prune: asked.prune,
    });
    let mut files =
        candidates::candidates_with(observations, existing, &asked.making).with_context(place)?;
    if let Some(logs) = &asked.records {
        let mut evidence = Evidence::parse(&files.evidence)?;
        let workload = (!asked.is_merged).then(|| observations.workload());
        evidence.records = records::of(&evidence, logs, workload)?;
        files.evidence = evidence.to_text()?;
    }
    Ok(Made { original, files })
}

/// The bases of the policy at `path`, with what their published ranges stand for.
fn bases(path: &Path, text: &str, ranges: &Ranges) -> anyhow::Result<Vec<Policy>> {
    let mut bases = policy_file::bases(path, &document::parse(text)?)?;
    bases.iter_mut().for_each(|base| base.look_up(ranges));
    Ok(bases)
}

fn write_text(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => files::write(path, text)?,
        None => terminal::data(text).context("cannot write to standard output")?,
    }
    Ok(())
}
