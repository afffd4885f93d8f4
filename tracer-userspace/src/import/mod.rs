//! Logs and captures in, observations out: our own segments and what other tools wrote, as files or
//! streams.
//!
//! Order and names of the inputs never show in the result. What cannot be read is counted and
//! shown, never fatal unless asked for.

mod ahead;
mod blocks;
mod buffer;
pub mod capture;
mod completeness;
mod content;
mod contents;
mod destination_line;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gathering;
mod inputs;
mod line;
mod lines;
mod metered;
pub mod numbered;
mod plain;
mod problems;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod properties;
mod source;
mod taking;
mod tally;
mod tools;
mod understanding;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use ipnet::IpNet;

pub use inputs::{Input, find};
pub use problems::{Problem, Problems};

use crate::{
    policy::{Workloads, observe},
    spans::book::Book,
};
use contents::Contents;
use source::Reading;

/// How inputs are read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The workload of lines that name none; without it, the file's name.
    pub workload: Option<String>,
    /// Stop at the first problem.
    pub strict: bool,
    /// Destinations kept per workload.
    pub max_destinations: usize,
    /// Where the workload is, for captures and for logs that do not say who sent; empty: whoever
    /// begins a connection is the workload.
    pub local: Vec<IpNet>,
    /// What counts as one run.
    pub runs: Runs,
    /// Tell what each capture was, by its SHA-256: who writes no evidence does not need it. Logs are
    /// hashed in any case, to know copies.
    pub identified: bool,
    /// How many bytes of the inputs were read so far, for whoever looks on.
    pub read: Arc<AtomicU64>,
    /// What agents have exported about the same time.
    pub spans: Arc<Book>,
}

/// What counts as one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Runs {
    /// As recorded; each file of another tool is one
    #[default]
    Recorded,
    /// All files of a directory are one
    Directory,
    /// All inputs are one
    All,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workload: None,
            strict: false,
            max_destinations: observe::DEFAULT_MAX_DESTINATIONS,
            local: Vec::new(),
            runs: Runs::default(),
            identified: true,
            read: Arc::default(),
            spans: Arc::default(),
        }
    }
}

/// What the inputs said.
#[derive(Clone, Debug)]
pub struct Imported {
    pub workloads: Workloads,
    pub problems: Problems,
    /// Worth knowing, and no reason to stop. Texts come from the inputs: escape them.
    pub notes: Vec<String>,
}

/// Why inputs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0} is not there")]
    NotFound(String),
    #[error("nothing matches {0}")]
    NoMatch(String),
    #[error("{0} is not a pattern: {1}")]
    Pattern(String, String),
    #[error(
        "{0} holds no log (looked for *.jsonl, *.pcap and *.pcapng, and for *.log, *.json and *.ndjson \
         of tools that are known, also with .gz or .zst)"
    )]
    EmptyDirectory(String),
    #[error("cannot read {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{0}")]
    Strict(Problem),
    #[error("no usable record in the input{}", why_nothing(.problems, *.beside))]
    NothingUsable {
        problems: Problems,
        /// Lines that were understood and tell of no destination.
        beside: u64,
    },
}

fn why_nothing(problems: &Problems, beside: u64) -> String {
    match (problems.shown().first(), beside) {
        (Some(problem), _) => format!(": {} problem(s), the first at {problem}", problems.count()),
        (None, 0) => String::new(),
        (None, _) => format!(": {beside} line(s) were understood, and none tells of a destination"),
    }
}

/// Reads every input to its end.
pub fn import(inputs: &[Input], settings: &Settings) -> Result<Imported, ImportError> {
    let mut imported = Imported {
        workloads: Workloads::new(settings.max_destinations),
        problems: Problems::default(),
        notes: Vec::new(),
    };
    let (mut names, gathered) = gathering::gather(inputs)?;
    let mut known_segments = HashSet::new();
    let mut segments = Segments::default();
    let (mut unknown_types, mut beside) = (0, 0);
    let mut naming = Vec::new();
    for input in inputs {
        let is_gathered = gathered.contains(input);
        let problems = &mut imported.problems;
        let contents = Reading::new(input, settings, problems, &mut names, is_gathered).read()?;
        segments.note(input, &contents);
        unknown_types += contents.unknown_types;
        beside += contents.beside;
        let about = |note: &String| format!("{}: {note}", input.name());
        imported.notes.extend(contents.notes.iter().map(about));
        // Two identical segments of ours are one and its copy: records carry time and run.
        if contents.is_ours && !known_segments.insert(contents.sha256.clone()) {
            let note = format!("{}: a copy of another input, counted once", input.name());
            imported.notes.push(note);
            continue;
        }
        if contents.is_names_alone() {
            naming.extend(contents.source());
        }
        let run = Reading::group(input, settings.runs);
        imported
            .workloads
            .merge(contents.into_workloads(run.as_deref()));
    }
    if imported.workloads.is_empty() {
        let problems = imported.problems;
        return Err(ImportError::NothingUsable { problems, beside });
    }
    for observations in imported.workloads.iter_mut() {
        naming
            .iter()
            .for_each(|source| observations.add_source(source.clone()));
        names.tell_refused(observations);
    }
    imported.notes.extend(segments.missing());
    if unknown_types > 0 {
        let note = format!("{unknown_types} record(s) of types that this version does not know");
        imported.notes.push(note);
    }
    Ok(imported)
}

/// Which segments there are, and which ones they say come next.
#[derive(Debug, Default)]
struct Segments {
    read: BTreeSet<PathBuf>,
    next: BTreeSet<(PathBuf, PathBuf)>,
}

impl Segments {
    fn note(&mut self, input: &Input, contents: &Contents) {
        let Input::File(path) = input else {
            return;
        };
        self.read.insert(path.clone());
        if let Some(next) = &contents.next_segment {
            self.next.insert((path.clone(), path.with_file_name(next)));
        }
    }

    /// A note for each segment that is announced and not among the inputs, packed or not.
    fn missing(&self) -> impl Iterator<Item = String> {
        let is_read = |path: &PathBuf| {
            let packed = |suffix: &str| {
                let mut name = path.clone().into_os_string();
                name.push(suffix);
                self.read.contains(&PathBuf::from(name))
            };
            self.read.contains(path) || packed(".zst") || packed(".gz")
        };
        let missing = self.next.iter().filter(move |(_, next)| !is_read(next));
        missing.map(|(path, next)| {
            let (path, next) = (path.display(), next.display());
            format!("{path} goes on in {next}, which is not among the inputs")
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use crate::ranges::Ranges;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::{
        policy::{Observations, candidates, observe::Source},
        record::Record,
    };

    /// A segment that was rotated away, and the one that follows it.
    fn segments() -> [String; 2] {
        let record = |kind: &str, body: &str| {
            format!(
                "{{\"type\":\"{kind}\",\"schema\":\"egress-tracer/1\",\
                 \"ts\":\"2026-11-22T10:00:00Z\",\"host\":\"h\",\"run\":\"r\",\
                 \"workload\":\"w\",{body}}}\n"
            )
        };
        let flow = |ip: &str| {
            let body = format!(
                "\"protocol\":\"tcp\",\"dest_ip\":\"{ip}\",\"dest_port\":443,\
                 \"channel\":\"connect\",\"direction\":\"egress\",\"count\":2,\"comm\":\"curl\",\
                 \"first_seen\":\"2026-11-22T10:00:00Z\",\"last_seen\":\"2026-11-22T10:00:00Z\""
            );
            record("flow", &body)
        };
        let start = record("start", "\"version\":\"0\",\"pid\":1,\"hooks\":[]");
        let rotate = record("rotate", "\"next\":\"flows.jsonl\"");
        let stop = record("stop", "\"reason\":\"x\",\"records\":3,\"count\":6");
        [
            start + &flow("192.0.2.1") + &rotate,
            flow("192.0.2.2") + &flow("192.0.2.1") + &stop,
        ]
    }

    fn source(segment: &str) -> Source {
        let digest = Sha256::digest(segment.as_bytes());
        Source {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            records: segment.lines().count() as u64,
        }
    }

    #[test]
    fn a_writer_that_observes_what_it_writes_makes_the_same_files() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = segments();
        let mut live = Observations::new("w", observe::DEFAULT_MAX_DESTINATIONS);
        for line in first.lines().chain(second.lines()) {
            live.observe(&serde_json::from_str::<Record>(line).unwrap());
        }
        live.add_source(source(&first));
        live.set_open_source(Some(source(&second)));
        let archive = zstd::encode_all(first.as_bytes(), 1).unwrap();
        std::fs::write(directory.path().join("flows.1.jsonl.zst"), archive).unwrap();
        std::fs::write(directory.path().join("flows.jsonl"), &second).unwrap();

        let inputs = find(&[directory.path().to_owned()]).unwrap();
        let imported = import(&inputs, &Settings::default()).unwrap();
        assert_eq!(imported.notes, Vec::<String>::new());
        let read = imported.workloads.resolve().remove("w").unwrap();
        assert_eq!(
            candidates(&live, None, &Ranges::default()).unwrap(),
            candidates(&read, None, &Ranges::default()).unwrap()
        );
    }
}
