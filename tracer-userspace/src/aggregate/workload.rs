//! One workload's log, what it has shown so far, and the candidate files made from it.

mod continuity;
mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;

use super::account::{Mark, Totals};
use crate::{
    import::{self, Input},
    output::log::{Ending, LogError, LogWriter, OPEN_SEGMENT, Opened, Rotation},
    policy::Observations,
    record::{Entry, Gap, GapKind, Record, SCHEMA, Start, Stop},
};

pub use self::{
    continuity::Continuity,
    disk::{CandidatesError, WRITTEN},
};
use self::{
    continuity::{downtime, refused_lines, unopened},
    disk::{Disk, Written},
};

/// How a workload's files are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    pub rotation: Rotation,
    pub max_destinations: usize,
    /// What to do with candidate files that somebody else wrote last.
    pub foreign: Foreign,
}

/// Candidate files that somebody else wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Left alone: a daemon comes back every few seconds.
    Leave,
    /// The policy is merged into, the rules are made anew: asked for by a person.
    Merge,
}

/// Why a workload cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot read the log in {directory}: {error}")]
    Import {
        directory: PathBuf,
        error: Box<import::ImportError>,
    },
    #[error(
        "{directory} holds the log of workload {theirs:?}, not of {ours:?}: choose another directory, or --workload {theirs:?}"
    )]
    OtherWorkload {
        directory: PathBuf,
        theirs: String,
        ours: String,
    },
}

/// One workload being recorded.
#[derive(Debug)]
pub struct Workload {
    name: Arc<str>,
    host: Arc<str>,
    disk: Option<Disk>,
    observations: Observations,
    runs: BTreeMap<Arc<str>, Totals>,
    /// Runs that an earlier recording in this log knew, and what they are told of the time between.
    continued: BTreeSet<Arc<str>>,
    between: Option<Gap>,
    /// What the recording before this one cost; told with the first run.
    unclosed: Option<Gap>,
    /// Something was told since the candidates were last written.
    has_news: bool,
    /// Records that went into no log.
    unlogged: u64,
}

impl Workload {
    /// A workload that is kept in memory only.
    #[must_use]
    pub fn in_memory(name: Arc<str>, host: Arc<str>, max_destinations: usize) -> Self {
        Self {
            observations: Observations::new(name.to_string(), max_destinations),
            name,
            host,
            disk: None,
            runs: BTreeMap::new(),
            continued: BTreeSet::new(),
            between: None,
            unclosed: None,
            has_news: true,
            unlogged: 0,
        }
    }

    /// Opens or continues the log in `directory`. `mark` is how far it goes for certain.
    ///
    /// # Errors
    /// The directory cannot be written, is another workload's, or is in use.
    pub fn on_disk(
        name: Arc<str>,
        host: Arc<str>,
        directory: &Path,
        keeping: Keeping,
        continuity: &Continuity,
        mark: Option<&Mark>,
    ) -> Result<Self, WorkloadError> {
        let position = mark.map(|mark| mark.position);
        let opened = LogWriter::open(directory, keeping.rotation, position)?;
        let mut workload = Self::in_memory(name, host, keeping.max_destinations);
        if opened.ending != Ending::New || has_closed_segments(directory) {
            workload.continue_from(directory, keeping.max_destinations)?;
        }
        let Opened {
            log,
            ending,
            resumed,
            modified,
        } = opened;
        workload.disk = Some(Disk {
            directory: directory.to_owned(),
            log,
            written: Written::read(directory),
            foreign: keeping.foreign,
        });
        match (mark.filter(|_| resumed), ending) {
            (Some(mark), _) => {
                workload.resume(mark);
                workload.continue_ended(continuity, modified);
            }
            // One gap for all that it left open.
            (None, Ending::Unclosed) => {
                let gap = match continuity {
                    Continuity::Broken(gap) if gap.what == GapKind::Replaced => gap.clone(),
                    Continuity::Broken(_) | Continuity::Since(_) => downtime(),
                };
                workload.unclosed = Some(gap);
            }
            (None, Ending::Closed) => workload.continue_ended(continuity, modified),
            (None, Ending::New) => {}
        }
        Ok(workload)
    }

    /// The writer before this one was killed, and is known to have come this far. Its runs are
    /// open until [`Self::take_over`].
    fn resume(&mut self, mark: &Mark) {
        let runs = mark.runs.iter();
        self.runs = runs
            .map(|(run, totals)| (run.as_str().into(), *totals))
            .collect();
        self.unclosed = (mark.unwritten > 0).then(|| refused_lines(mark.unwritten));
    }

    /// Runs that the log has ended may come back, and are then told what happened between.
    fn continue_ended(&mut self, continuity: &Continuity, modified: Option<SystemTime>) {
        self.between = continuity.gap_since(modified);
        let ended = self.observations.run_ids();
        self.continued = ended
            .filter(|run| !self.runs.contains_key(*run))
            .cloned()
            .collect();
    }

    /// Ends the runs of a writer that was killed: they go on under this one, if they do.
    pub fn take_over(&mut self, last_run: &str, continuity: &Continuity) {
        if let Some(gap) = self.unclosed.take() {
            self.tell_gap(last_run, gap);
        }
        for run in self.open_runs() {
            if let Continuity::Broken(gap) = continuity {
                self.tell_gap(&run, gap.clone());
            }
            self.end(&run, "killed", None);
        }
    }

    /// How far the log goes; `None` where there is none.
    #[must_use]
    pub fn mark(&self, last_run: &str) -> Option<Mark> {
        let log = &self.disk.as_ref()?.log;
        Some(Mark {
            position: log.position().ok()?,
            unwritten: log.unwritten(),
            runs: self
                .runs
                .iter()
                .map(|(run, totals)| (run.to_string(), *totals))
                .collect(),
            last_run: last_run.to_owned(),
        })
    }

    fn continue_from(
        &mut self,
        directory: &Path,
        max_destinations: usize,
    ) -> Result<(), WorkloadError> {
        let failed = |error| WorkloadError::Import {
            directory: directory.to_owned(),
            error: Box::new(error),
        };
        let settings = import::Settings {
            max_destinations,
            ..import::Settings::default()
        };
        let inputs = import::find(&[directory.to_owned()]).map_err(failed)?;
        let (open, closed): (Vec<Input>, Vec<Input>) =
            inputs.into_iter().partition(is_open_segment);
        for (inputs, is_open) in [(closed, false), (open, true)] {
            if inputs.is_empty() {
                continue;
            }
            let known = match import::import(&inputs, &settings) {
                Ok(imported) => imported.workloads.resolve(),
                // A log that was cut off before its first record.
                Err(import::ImportError::NothingUsable { .. }) => continue,
                Err(error) => return Err(failed(error)),
            };
            self.absorb(directory, known, is_open)?;
        }
        Ok(())
    }

    fn absorb(
        &mut self,
        directory: &Path,
        known: BTreeMap<String, Observations>,
        is_open: bool,
    ) -> Result<(), WorkloadError> {
        for (theirs, mut observations) in known {
            if theirs != *self.name {
                return Err(WorkloadError::OtherWorkload {
                    directory: directory.to_owned(),
                    theirs,
                    ours: self.name.to_string(),
                });
            }
            if is_open {
                // It goes on growing: its digest is set whenever candidates are written.
                observations.forget_sources();
            }
            self.observations.merge(&observations);
        }
        Ok(())
    }

    /// Writes one record.
    pub fn tell(&mut self, record: &Record) {
        self.has_news = true;
        self.observations.observe(record);
        if let Record::Flow(entry) = record {
            let totals = self.runs.entry(entry.run.as_str().into()).or_default();
            totals.records += 1;
            totals.count += entry.body.count;
        }
        let Some(disk) = &mut self.disk else {
            self.unlogged += 1;
            return;
        };
        if let Err(error) = disk.log.append(record) {
            tracing::warn!(workload = %self.name, "cannot write the log: {error}");
        }
    }

    /// Whether the open segment is due for [`Self::rotate`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.log.is_full())
    }

    /// Wraps what is a record's own in what every record carries.
    pub fn envelope<T>(&self, run: &str, body: T) -> Entry<T> {
        Entry {
            schema: SCHEMA.to_owned(),
            ts: Timestamp::now(),
            host: self.host.to_string(),
            run: run.to_owned(),
            workload: self.name.to_string(),
            body,
        }
    }

    /// Writes a `start` record, once a run.
    pub fn begin(&mut self, run: &Arc<str>, start: &Start) {
        if let Some(gap) = self.unclosed.take() {
            self.tell_gap(run, gap);
        }
        if self.runs.contains_key(run) {
            return;
        }
        if let Some(gap) = self
            .between
            .clone()
            .filter(|_| self.continued.contains(run))
        {
            self.tell_gap(run, gap);
        }
        self.runs.insert(run.clone(), Totals::default());
        let record = Record::Start(self.envelope(run, start.clone()));
        self.tell(&record);
    }

    /// These runs were ended by this process: should they come back, nothing was missed.
    pub fn ended_here<'a>(&mut self, runs: impl Iterator<Item = &'a Arc<str>>) {
        for run in runs {
            self.continued.remove(run);
        }
    }

    /// Writes a `stop` record for a run that was begun.
    pub fn end(&mut self, run: &Arc<str>, reason: &str, exit_code: Option<i32>) {
        let Some(totals) = self.runs.remove(run) else {
            return;
        };
        let stop = Stop {
            reason: reason.to_owned(),
            records: totals.records,
            count: totals.count,
            exit_code,
        };
        let record = Record::Stop(self.envelope(run, stop));
        self.tell(&record);
    }

    /// Whether the log is new, with nothing in it.
    #[must_use]
    pub fn is_unheard_of(&self) -> bool {
        self.runs.is_empty() && self.observations.run_ids().next().is_none()
    }

    /// Runs that have begun and not ended.
    pub fn open_runs(&self) -> Vec<Arc<str>> {
        self.runs.keys().cloned().collect()
    }

    #[must_use]
    pub fn has_open_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Writes a `gap` record.
    pub fn tell_gap(&mut self, run: &str, gap: Gap) {
        let record = Record::Gap(self.envelope(run, gap));
        self.tell(&record);
    }

    /// Takes in what was observed under a provisional name.
    pub fn merge(&mut self, provisional: &Observations) {
        self.has_news = true;
        self.observations.merge(provisional);
    }

    /// Goes on for `before`, whose log could not be opened: with its runs, what it has observed, and
    /// a gap for what it was told.
    pub fn go_on_for(&mut self, before: &Self, last_run: &str, start: &Start) {
        for run in before.open_runs() {
            self.begin(&run, start);
        }
        self.merge(&before.observations);
        if before.unlogged > 0 {
            self.tell_gap(last_run, unopened(before.unlogged));
        }
    }

    /// Whether anything was told since the candidates were last written.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    #[must_use]
    pub fn observations(&self) -> &Observations {
        &self.observations
    }

    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.directory.as_path())
    }

    /// Puts what was told on disk; what could not be is told in a gap once the disk takes lines
    /// again.
    pub fn flush(&mut self, run: &str) {
        let Some(disk) = &mut self.disk else { return };
        if let Err(error) = disk.log.flush() {
            tracing::warn!(workload = %self.name, "cannot write the log: {error}");
            return;
        }
        let lost = disk.log.take_lost();
        if lost > 0 {
            self.tell_gap(run, refused_lines(lost));
            self.flush(run);
        }
    }

    /// Opens the log again after somebody moved it away.
    pub fn reopen(&mut self) {
        let envelope = self.rotation_envelope();
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.log.reopen(&envelope, Timestamp::now())
        {
            tracing::error!(workload = %self.name, "{error}");
        }
    }

    /// Rewrites the candidate files if there is anything new.
    ///
    /// # Errors
    /// They cannot be made or written; they are tried again next time.
    pub fn write_candidates(&mut self) -> Result<(), CandidatesError> {
        let Some(disk) = self.disk.as_mut().filter(|_| self.has_news) else {
            return Ok(());
        };
        for closed in disk.log.take_closed() {
            self.observations.add_source(closed);
        }
        self.observations.set_open_source(Some(disk.log.source()));
        disk.write_candidates(&self.observations)?;
        self.has_news = false;
        Ok(())
    }

    /// Flushes and lets go of the log.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn close(&mut self) -> io::Result<()> {
        self.disk.as_mut().map_or(Ok(()), |disk| disk.log.close())
    }

    fn rotation_envelope(&self) -> Entry<()> {
        let run = self.runs.keys().next().cloned().unwrap_or_default();
        self.envelope(&run, ())
    }

    /// Closes the open segment and begins the next one.
    pub fn rotate(&mut self) {
        let envelope = self.rotation_envelope();
        let Some(disk) = &mut self.disk else { return };
        let deleted = disk.log.deleted();
        if let Err(error) = disk.log.rotate(&envelope, Timestamp::now()) {
            tracing::warn!(workload = %self.name, "cannot rotate the log: {error}");
            return;
        }
        if disk.log.deleted() > deleted {
            // What the segment said is in the observations; the policy has to keep it from now on.
            disk.written.segments_deleted = true;
        }
    }
}

/// Somebody may have moved other segments here, under any name.
fn is_open_segment(input: &Input) -> bool {
    match input {
        Input::File(path) => path.file_name().is_some_and(|name| name == OPEN_SEGMENT),
        Input::Stdin => false,
    }
}

fn has_closed_segments(directory: &Path) -> bool {
    directory.join("flows.1.jsonl.zst").exists() || directory.join("flows.1.jsonl").exists()
}
