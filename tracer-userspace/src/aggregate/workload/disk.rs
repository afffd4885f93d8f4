//! A workload's files: its log, and the candidates beside it, which others may change.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Foreign;
use crate::{
    output::{files, log::LogWriter},
    policy::{Observations, candidates, document},
    ranges::Ranges,
    ranges_file::{self, RangesFileError},
};

/// Beside the candidates: digests of what we wrote, to tell our files from other people's.
pub const WRITTEN: &str = ".written.json";

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) directory: PathBuf,
    pub(super) log: LogWriter,
    pub(super) written: Written,
    pub(super) foreign: Foreign,
}

/// The content of [`WRITTEN`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// SHA-256 by file name.
    files: BTreeMap<String, String>,
    /// The same of what was about to be written: whoever was killed then wrote one or the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    next: BTreeMap<String, String>,
    /// Log segments were deleted: the policy knows more than the log does.
    pub(super) segments_deleted: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum CandidatesError {
    #[error(transparent)]
    Candidates(#[from] candidates::CandidateError),
    #[error(transparent)]
    Ranges(#[from] RangesFileError),
    #[error(transparent)]
    Write(#[from] files::WriteError),
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
}

impl Disk {
    pub(super) fn write_candidates(
        &mut self,
        observations: &Observations,
    ) -> Result<(), CandidatesError> {
        self.written.settle(&self.directory);
        let existing = self.existing_policy()?;
        let ranges = match &existing {
            // What makes no sense is told when it is merged into.
            Some(text) => ranges_file::load_for(&document::parse(text).ok(), None)?,
            None => Ranges::default(),
        };
        let files = candidates(observations, existing.as_deref(), &ranges)?;
        let ours: Vec<(&str, &str)> = files
            .named()
            .into_iter()
            .filter(|(name, _)| self.may_write(name))
            .collect();
        let digests = ours
            .iter()
            .map(|(name, text)| ((*name).to_owned(), digest(text.as_bytes())));
        self.written.next = digests.collect();
        self.written.save(&self.directory)?;
        files::write_all(&self.directory, &ours)?;
        let next = std::mem::take(&mut self.written.next);
        self.written.files.extend(next);
        Ok(())
    }

    /// The policy to merge into: somebody's decisions, or what deleted segments have shown. What
    /// we wrote ourselves from a whole log is made anew, so that it is always what `generate`
    /// would say.
    fn existing_policy(&self) -> Result<Option<String>, CandidatesError> {
        let path = self.directory.join("policy.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CandidatesError::Read { path, error }),
        };
        let is_ours = self.written.is_ours("policy.toml", text.as_bytes());
        Ok((!is_ours || self.written.segments_deleted).then_some(text))
    }

    fn may_write(&self, name: &str) -> bool {
        let current = fs::read(self.directory.join(name));
        let is_foreign = current.is_ok_and(|bytes| !self.written.is_ours(name, &bytes));
        if is_foreign && self.foreign == Foreign::Leave {
            let path = self.directory.join(name);
            tracing::warn!(
                "{} was changed by somebody else: left alone",
                path.display()
            );
            return false;
        }
        true
    }
}

impl Written {
    pub(super) fn read(directory: &Path) -> Self {
        fs::read(directory.join(WRITTEN))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Whoever wrote last may have been killed amid the files, or the disk was full: those that were
    /// written are told from the others, before it is forgotten what they were to be.
    fn settle(&mut self, directory: &Path) {
        for (name, next) in std::mem::take(&mut self.next) {
            let now = fs::read(directory.join(&name));
            if now.is_ok_and(|bytes| digest(&bytes) == next) {
                self.files.insert(name, next);
            }
        }
    }

    fn save(&self, directory: &Path) -> Result<(), files::WriteError> {
        let text = serde_json::to_string(self).unwrap_or_default();
        files::write(&directory.join(WRITTEN), &text)
    }

    fn is_ours(&self, name: &str, bytes: &[u8]) -> bool {
        let digest = digest(bytes);
        [&self.files, &self.next]
            .iter()
            .any(|digests| digests.get(name) == Some(&digest))
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn digests(texts: [(&str, &str); 2]) -> BTreeMap<String, String> {
        let each = texts.map(|(name, text)| (name.to_owned(), digest(text.as_bytes())));
        each.into()
    }

    /// Killed amid writing, and killed again before writing anew: all files are still ours.
    #[test]
    fn a_second_death_makes_none_of_our_files_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("policy.toml", "second"), ("rules.nft", "first")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut written = Written {
            files: digests([("policy.toml", "first"), ("rules.nft", "first")]),
            next: digests([("policy.toml", "second"), ("rules.nft", "second")]),
            segments_deleted: false,
        };
        written.settle(folder.path());
        written.next = digests([("policy.toml", "third"), ("rules.nft", "third")]);
        written.save(folder.path()).unwrap();
        let again = Written::read(folder.path());
        assert!(again.is_ours("policy.toml", b"second"));
        assert!(again.is_ours("rules.nft", b"first"));
        assert!(!again.is_ours("rules.nft", b"somebody else's"));
    }
}
