//! A file that is read, changed and written back, unless somebody else has changed it meanwhile.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::files::{self, WriteError};

/// A file as it was read.
#[derive(Debug)]
pub struct Original {
    path: PathBuf,
    /// `None` if it was not there.
    text: Option<String>,
}

/// The right to replace a file that is still as it was read. Whoever else asks waits until it is
/// dropped, and is then refused.
#[derive(Debug)]
pub struct Claim {
    _lock: Option<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum OriginalError {
    #[error("cannot read {path}: {error}", path = path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{path} was changed by somebody else meanwhile; nothing was written. Look at the change, \
         then run the command again",
        path = .0.display()
    )]
    Changed(PathBuf),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Original {
    /// Reads the file, if it is there.
    pub fn read(path: &Path) -> Result<Self, OriginalError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.to_owned();
                return Err(OriginalError::Unreadable { path, error });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            text,
        })
    }

    /// What it said; `None` if it was not there.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Locks the file, and compares it with what was read.
    pub fn claim(&self) -> Result<Claim, OriginalError> {
        let failed = |error| OriginalError::Unreadable {
            path: self.path.clone(),
            error,
        };
        let changed = || OriginalError::Changed(self.path.clone());
        let file = match (File::open(&self.path), &self.text) {
            (Ok(file), Some(_)) => file,
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Claim { _lock: None });
            }
            (Ok(_), None) => return Err(changed()),
            (Err(error), Some(_)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(changed());
            }
            (Err(error), _) => return Err(failed(error)),
        };
        file.lock().map_err(failed)?;
        let mut now = Vec::new();
        (&file).read_to_end(&mut now).map_err(failed)?;
        let then = self.text.as_deref().unwrap_or_default();
        let is_same = Sha256::digest(&now) == Sha256::digest(then.as_bytes());
        if !is_same || !is_still_at(&file, &self.path) {
            return Err(changed());
        }
        Ok(Claim { _lock: Some(file) })
    }

    /// Puts `text` in its place, whole or not at all.
    pub fn replace(&self, text: &str) -> Result<(), OriginalError> {
        let _claim = self.claim()?;
        files::write(&self.path, text)?;
        Ok(())
    }
}

/// Whether the open file is what the path leads to: whoever replaced it took the lock on another.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => id(open) == id(there),
        (_, _) => false,
    }
}

#[cfg(not(unix))]
fn is_still_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_change_in_between_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        fs::write(&path, "one").unwrap();
        let (mine, theirs) = (
            Original::read(&path).unwrap(),
            Original::read(&path).unwrap(),
        );
        theirs.replace("two").unwrap();
        let error = mine.replace("three").unwrap_err().to_string();
        assert!(error.contains("run the command again"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        fs::remove_file(&path).unwrap();
        assert!(matches!(mine.replace("x"), Err(OriginalError::Changed(_))));
        let absent = Original::read(&path).unwrap();
        absent.replace("four").unwrap();
        assert!(matches!(
            absent.replace("x"),
            Err(OriginalError::Changed(_))
        ));
    }

    #[test]
    fn of_many_writers_at_once_each_counts_or_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        fs::write(&path, "0").unwrap();
        let add_up = || {
            let add = || {
                let original = Original::read(&path).unwrap();
                let number: u32 = original.text().unwrap().parse().unwrap();
                original.replace(&(number + 1).to_string()).is_ok()
            };
            (0..50).filter(|_| add()).count()
        };
        let counted: usize = thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|_| scope.spawn(add_up)).collect();
            writers.into_iter().map(|each| each.join().unwrap()).sum()
        });
        let number: usize = fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(number, counted);
        assert!(counted >= 50, "{counted}");
    }
}
