//! `policy verify`: whether logs still prove what the evidence says, and who signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use super::{Common, signature};
use crate::{
    analysis::proof::{self, Proof, Sources},
    cli,
    commands::{
        Failure,
        policy_file::PolicyFile,
        records::{self, MAX_LINES},
    },
    harmless,
    import::{self, Input, Settings},
    output::terminal,
    policy::{
        Observations,
        evidence::{Destination, Evidence, Pointer, Source},
        infer,
        model::{Entry, Status},
        selector,
    },
};

const EXAMPLES: &str = "\
Examples:
  # Do these logs still prove the policy?
  egress-tracer policy verify policy.toml logs/

  # Which records are the proof of each entry
  egress-tracer policy verify policy.toml logs/ --json

  # Did somebody sign the decisions who may?
  egress-tracer policy verify policy.toml --signers signers

Exit codes: 0 all of it is proven, and signed if that was asked for; 1 something is not; 2 bad usage or
input.";

/// Check the evidence against the logs it was made from, and the signature
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub(super) struct Verify {
    /// The policy
    policy: PathBuf,

    /// Logs, as for `generate`
    #[arg(value_name = "LOG", required_unless_present = "signers")]
    logs: Vec<PathBuf>,

    /// Who may sign, a line each: names and a public key, as `man ssh-keygen` has it under ALLOWED
    /// SIGNERS
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,

    /// Where the workload of a capture is, as for `generate`; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = cli::network)]
    local: Vec<IpNet>,

    /// One object, for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Verified {
    schema: &'static str,
    workload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Sources>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Standing>,
}

/// What one entry stands on.
#[derive(Debug, Serialize)]
struct Standing {
    entry: String,
    status: Status,
    /// Absent if nothing was ever observed of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
    records: Vec<Records>,
}

/// Where the proof is in one log.
#[derive(Debug, Serialize)]
struct Records {
    sha256: String,
    /// Lines of the unpacked log, counted from 1: the first of them.
    lines: Vec<u64>,
    /// How many there are.
    count: u64,
}

/// One log, by what it holds.
struct Log {
    input: Input,
    source: Source,
}

pub(super) fn verify(arguments: &Verify, common: &Common) -> Result<(), Failure> {
    let file = PolicyFile::read(&arguments.policy, common.ranges.as_deref())?;
    let mut verified = Verified {
        schema: "egress-tracer/verified/1",
        workload: file.policy.workload.clone(),
        ..Verified::default()
    };
    if let Some(signers) = &arguments.signers {
        let signer = signature::signer(&file, signers);
        verified.signed_by = Some(signer.map_err(|error| Failure::No(format!("{error:#}")))?);
    }
    if !arguments.logs.is_empty() {
        against_logs(&file, arguments, &mut verified)?;
    }
    let text = match arguments.json {
        true => harmless::pretty_json(&verified).map_err(anyhow::Error::from)? + "\n",
        false => verified.text(),
    };
    terminal::data(&text).context("cannot write to standard output")?;
    verified.answer()
}

fn against_logs(
    file: &PolicyFile,
    arguments: &Verify,
    verified: &mut Verified,
) -> anyhow::Result<()> {
    let evidence = file.evidence.as_ref().ok_or_else(|| {
        anyhow!(
            "{} has no evidence beside it: nothing was ever observed",
            file.path.display()
        )
    })?;
    let settings = Settings {
        workload: Some(file.policy.workload.clone()),
        local: arguments.local.clone(),
        ..Settings::default()
    };
    let logs = read_each(&arguments.logs, &settings)?;
    let given: Vec<Source> = logs.iter().map(|log| log.source.clone()).collect();
    let sources = Sources::compare(evidence, &given);
    let is_named = |log: &&Log| {
        sources
            .found
            .iter()
            .any(|source| source.sha256 == log.source.sha256)
    };
    let named: Vec<&Log> = logs.iter().filter(is_named).collect();
    let shown = shown(&named, &settings, &file.policy.workload)?;
    let mut judged = proof::judge(evidence, &shown, sources.missing.is_empty());
    let inputs: Vec<Input> = named.iter().map(|log| log.input.clone()).collect();
    let pointers = records::of(evidence, &inputs, Some(&file.policy.workload))?;
    for pointer in contradicted(evidence, &pointers, &named) {
        let is_it = |seen: &Destination| seen.to == pointer.to && seen.service == pointer.service;
        let wrong = judged.iter_mut().filter(|(seen, _)| is_it(seen));
        wrong.for_each(|(_, proof)| *proof = Proof::Wrong);
    }
    let records = records(file, evidence, &pointers);
    for (index, (entry, records)) in file.policy.entries.iter().zip(records).enumerate() {
        verified.entries.push(Standing {
            entry: selector::name_of(&file.policy, index),
            status: entry.status,
            proof: proof::of_entry(entry, &judged),
            records,
        });
    }
    verified.sources = Some(sources);
    Ok(())
}

/// The logs one by one, for the digest of each; a copy of another is left out.
fn read_each(paths: &[PathBuf], settings: &Settings) -> anyhow::Result<Vec<Log>> {
    let mut logs: Vec<Log> = Vec::new();
    for input in import::find(paths)? {
        let imported = match import::import(std::slice::from_ref(&input), settings) {
            Ok(imported) => imported,
            Err(import::ImportError::NothingUsable { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let all = imported.workloads.resolve();
        let source = all.values().flat_map(Observations::sources).next();
        let Some(source) = source.map(Source::from) else {
            continue;
        };
        if logs.iter().all(|log| log.source.sha256 != source.sha256) {
            logs.push(Log { input, source });
        }
    }
    Ok(logs)
}

/// What the logs that the evidence names show together.
fn shown(logs: &[&Log], settings: &Settings, workload: &str) -> anyhow::Result<Evidence> {
    let nothing = || Observations::new(workload, settings.max_destinations);
    if logs.is_empty() {
        return Ok(infer::evidence(&nothing()));
    }
    let inputs: Vec<Input> = logs.iter().map(|log| log.input.clone()).collect();
    let imported = import::import(&inputs, settings)?;
    let name = imported.workloads.final_name(workload);
    let observed = imported.workloads.resolve().remove(name);
    Ok(infer::evidence(&observed.unwrap_or_else(nothing)))
}

/// For each entry of the policy, the records about it.
fn records(file: &PolicyFile, evidence: &Evidence, pointers: &[Pointer]) -> Vec<Vec<Records>> {
    let mut names: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for seen in &evidence.destinations {
        let known = names.entry((seen.to, &seen.service)).or_default();
        known.extend(seen.names.iter().map(|name| name.name.as_str()));
    }
    let is_about = |entry: &Entry, pointer: &Pointer| {
        let names = names.get(&(pointer.to, &pointer.service));
        names.is_some_and(|names| proof::is_about(entry, &pointer.place(), names))
    };
    let of_entry = |entry: &Entry| {
        let mut by_log: BTreeMap<&str, (BTreeSet<u64>, u64)> = BTreeMap::new();
        for pointer in pointers.iter().filter(|pointer| is_about(entry, pointer)) {
            let (lines, count) = by_log.entry(&pointer.sha256).or_default();
            lines.extend(&pointer.lines);
            *count += pointer.count;
        }
        let records = by_log.into_iter().map(|(sha256, (lines, count))| Records {
            sha256: sha256.to_owned(),
            lines: lines.into_iter().take(MAX_LINES).collect(),
            count,
        });
        records.collect()
    };
    file.policy.entries.iter().map(of_entry).collect()
}

/// What the evidence says of records in these logs, and they do not: the destinations.
fn contradicted<'e>(evidence: &'e Evidence, shown: &[Pointer], logs: &[&Log]) -> Vec<&'e Pointer> {
    let is_here = |pointer: &&Pointer| {
        let mut logs = logs.iter();
        logs.any(|log| log.source.sha256 == pointer.sha256)
    };
    let said = evidence.records.iter().filter(is_here);
    said.filter(|pointer| !shown.contains(pointer)).collect()
}

impl Verified {
    fn answer(&self) -> Result<(), Failure> {
        let missing = self
            .sources
            .as_ref()
            .map_or(0, |sources| sources.missing.len());
        let is_open = |each: &&Standing| each.proof.is_some_and(|proof| proof != Proof::Whole);
        let open = self.entries.iter().filter(is_open).count();
        match (open, missing) {
            (0, 0) => Ok(()),
            (_, _) => Err(Failure::No(format!(
                "{open} entries are not wholly proven; {missing} log(s) that the evidence names are \
                 not among these"
            ))),
        }
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(signer) = &self.signed_by {
            lines.push(format!("signed by {signer}"));
        }
        if let Some(sources) = &self.sources {
            let each = |what: &str, all: &[Source]| -> Vec<String> {
                let line =
                    |one: &Source| format!("{what}  {}  {} record(s)", one.sha256, one.records);
                all.iter().map(line).collect()
            };
            lines.extend(each("proven by ", &sources.found));
            lines.extend(each("missing   ", &sources.missing));
            lines.extend(each("not named ", &sources.other));
        }
        lines.extend(self.entries.iter().map(Standing::line));
        let lines = lines.iter().map(|line| terminal::escape(line) + "\n");
        lines.collect()
    }
}

impl Standing {
    fn line(&self) -> String {
        let proof = match self.proof {
            Some(Proof::Whole) => "proven",
            Some(Proof::Part) => "proven in part",
            Some(Proof::Gone) => "cannot be proven any more",
            Some(Proof::Wrong) => "CONTRADICTED",
            None => "never observed",
        };
        let mut line = format!("{}  {}  {proof}", self.entry, self.status.word());
        for records in &self.records {
            let lines: Vec<String> = records.lines.iter().map(ToString::to_string).collect();
            let more = match records.count.saturating_sub(records.lines.len() as u64) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let digest: String = records.sha256.chars().take(12).collect();
            line += &format!("  {digest}: {}{more}", lines.join(" "));
        }
        line
    }
}
