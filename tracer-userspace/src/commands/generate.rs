//! `generate`: logs or captures in, candidate policy or candidate rules out.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    cli::{Format, Generate},
    commands::{
        Failure,
        evidence::{self, tell_list},
    },
    output::{files, terminal},
    policy::{
        CandidateFiles, Observations,
        aggregate::Breadth,
        candidates::{self, Making},
    },
    render::{self, Options},
    workload_name,
};

/// Reads every input before anything is written, so that a failure leaves all as it was.
pub(super) fn generate(arguments: &Generate) -> Result<(), Failure> {
    if arguments.format == Some(Format::List) {
        terminal::data(&render::list()).context("cannot write to standard output")?;
        return Ok(());
    }
    let options = arguments.rules.options().map_err(anyhow::Error::from)?;
    let output = Output::of(arguments)?;
    output.check(&options)?;
    let making = Making {
        options,
        aggregate: arguments.rules.aggregate.clone(),
    };
    let several = matches!(output, Output::Directory(_));
    let chosen = evidence::chosen(&arguments.input, several)?;
    write(&chosen, &output, &making, arguments.rules.exact)
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

fn write(
    chosen: &[Observations],
    output: &Output,
    making: &Making,
    exact: bool,
) -> Result<(), Failure> {
    match (output, chosen) {
        (Output::Policy(path), [one]) => write_policy(one, path.as_deref(), making)?,
        (Output::Rules(format, path), [one]) => {
            let (rendered, breadth) =
                candidates::candidate_rules(one, *format, making).map_err(anyhow::Error::from)?;
            tell_breadth(one, &breadth);
            tell_omissions(&rendered.omissions, exact)?;
            write_text(path.as_deref(), &rendered.text)?;
        }
        (Output::Directory(directory), many) => {
            write_folders(directory, many, making, exact)?;
        }
        // choose() leaves one workload for what is no directory.
        (Output::Policy(_) | Output::Rules(..), _) => {
            return Err(anyhow!("the output is for one workload").into());
        }
    }
    Ok(())
}

/// Nothing is opened in silence.
fn tell_breadth(observations: &Observations, breadth: &Breadth) {
    if breadth.wide > 0 {
        terminal::tell(&format!("{}: {breadth}", observations.workload()));
    }
}

/// What the rules do not say, or say wider. With `exact` there must be nothing.
fn tell_omissions(omissions: &[String], exact: bool) -> Result<(), Failure> {
    tell_list("not in the rules: ", omissions);
    if exact && !omissions.is_empty() {
        return Err(Failure::Negative(format!(
            "{} thing(s) cannot be said exactly, and --exact was asked for: nothing was written",
            omissions.len()
        )));
    }
    Ok(())
}

fn write_policy(
    observations: &Observations,
    path: Option<&Path>,
    making: &Making,
) -> anyhow::Result<()> {
    let Some(path) = path.filter(|path| !files::is_special(path)) else {
        let made = candidates::candidates_with(observations, None, making)?;
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
    files::write_all(
        directory,
        &[(name, &made.policy), (&evidence, &made.evidence)],
    )?;
    Ok(())
}

/// One workload into the directory itself, several into a folder each; all of them are made before
/// any is written.
fn write_folders(
    directory: &Path,
    workloads: &[Observations],
    making: &Making,
    exact: bool,
) -> Result<(), Failure> {
    let folder = |observations: &Observations| match workloads {
        [_] => directory.to_owned(),
        _ => directory.join(workload_name::encode(observations.workload())),
    };
    let made = workloads
        .iter()
        .map(|observations| {
            let folder = folder(observations);
            let made = make(observations, &folder.join("policy.toml"), making)?;
            Ok((folder, made))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    for (observations, (_, files)) in workloads.iter().zip(&made) {
        tell_breadth(observations, &files.breadth);
        tell_omissions(&files.omitted, exact)?;
    }
    for (folder, files) in &made {
        files::write_all(folder, &files.named()).map_err(anyhow::Error::from)?;
    }
    Ok(())
}

/// The candidate files, merged with the policy that stands at `path`.
fn make(
    observations: &Observations,
    path: &Path,
    making: &Making,
) -> anyhow::Result<CandidateFiles> {
    let existing = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    candidates::candidates_with(observations, existing.as_deref(), making)
        .with_context(|| path.display().to_string())
}

fn write_text(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => files::write(path, text)?,
        None => terminal::data(text).context("cannot write to standard output")?,
    }
    Ok(())
}
