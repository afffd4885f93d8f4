//! The account: what the logs hold of what was taken out of the kernel.
//!
//! One small file beside the workloads' directories, replaced whole. Replacing it is the moment
//! at which everything up to a sweep counts as told; what a log has beyond its mark is cut off by
//! the next daemon, which tells it again from the journal (`ebpf/journal.rs`) and the kernel.
//! Lines added between two replacements say what must be known before the next one: a log is
//! marked before its first record is written.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytemuck::Zeroable as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::sync::watch;
use tracer_common::flow::FlowKey;

use super::table::Tally;
use crate::{ebpf::losses::Losses, enrich::memory::Remembered, output::log::Position};

const FILE: &str = ".daemon.account";

/// Raised when the meaning of [`Account`] changes.
const VERSION: u32 = 1;

/// What one daemon leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Set by [`Book::save`].
    pub version: u32,
    /// Names the kernel's maps that this is about.
    pub instance: u64,
    /// Everything up to this sweep is in the logs, or waiting.
    pub generation: u64,
    /// Since when the kernel has counted without a break.
    pub since: Timestamp,
    /// Losses that the logs tell.
    pub losses: Losses,
    /// The logs that are open, by workload.
    pub logs: BTreeMap<String, Mark>,
    /// Flows that no log has yet: their container has no name.
    pub waiting: Vec<Waiting>,
    /// Paths of their cgroups.
    pub cgroups: Vec<(u64, String)>,
    pub containers: Vec<Remembered>,
}

/// How far one log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub position: Position,
    /// Records that the disk has refused so far.
    pub unwritten: u64,
    /// Runs that have begun and not ended.
    pub runs: BTreeMap<String, Totals>,
    pub last_run: String,
}

/// What one run has in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub records: u64,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// A [`FlowKey`]'s bytes.
    key: Vec<u8>,
    pub tally: Tally,
}

impl Waiting {
    #[must_use]
    pub fn new(key: &FlowKey, tally: &Tally) -> Self {
        Self {
            key: bytemuck::bytes_of(key).to_vec(),
            tally: tally.clone(),
        }
    }

    /// The key; zero if the file was tampered with.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        bytemuck::try_pod_read_unaligned(&self.key).unwrap_or_else(|_| FlowKey::zeroed())
    }
}

/// A line of the file after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Opened { workload: String, mark: Mark },
    Named(Box<Remembered>),
}

/// Reads the account in `directory`; `None` if there is none.
///
/// # Errors
/// It cannot be read or understood.
pub fn read(directory: &Path) -> io::Result<Option<Account>> {
    let text = match fs::read(directory.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut account: Account = serde_json::from_slice(lines.next().unwrap_or_default())?;
    if account.version != VERSION {
        return Err(io::Error::other("it is of another version"));
    }
    // A line that was cut off is the last: nothing that needs it has happened.
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Opened { workload, mark }) => {
                account.logs.insert(workload, mark);
            }
            Ok(Line::Named(container)) => account.containers.push(*container),
            Err(_cut_off) => break,
        }
    }
    Ok(Some(account))
}

/// Forgets the account in `directory`.
pub fn remove(directory: &Path) {
    let _absent = fs::remove_file(directory.join(FILE));
}

/// The writing end.
#[derive(Debug)]
pub struct Book {
    directory: PathBuf,
    instance: u64,
    since: Timestamp,
    /// Open for more lines; `None` until the first account, and after the disk refused one.
    file: Option<File>,
    /// Hears of each sweep that is told.
    told: watch::Sender<u64>,
}

impl Book {
    #[must_use]
    pub fn new(directory: &Path, instance: u64, since: Timestamp) -> Self {
        Self {
            directory: directory.to_owned(),
            instance,
            since,
            file: None,
            told: watch::channel(0).0,
        }
    }

    /// Hears up to which sweep everything is told.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Replaces the account. Without one that is right there is none: the next daemon then says
    /// that it does not know.
    pub fn save(&mut self, account: Account) {
        let generation = account.generation;
        let account = Account {
            version: VERSION,
            instance: self.instance,
            since: self.since,
            ..account
        };
        match self.replace(&account) {
            Ok(file) => {
                self.file = Some(file);
                self.told.send_replace(generation);
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn replace(&self, account: &Account) -> io::Result<File> {
        let mut file = NamedTempFile::with_prefix_in(".daemon.account.", &self.directory)?;
        let mut text = serde_json::to_vec(account)?;
        text.push(b'\n');
        // One piece: the page cache outlives a killed process, so nothing waits for the disk.
        file.write_all(&text)?;
        Ok(file.persist(self.directory.join(FILE))?)
    }

    /// Marks a log before its first record is written.
    pub fn opened(&mut self, workload: &str, mark: Mark) {
        let workload = workload.to_owned();
        self.add(&Line::Opened { workload, mark });
    }

    /// Keeps a container's name, which the engine may not know any more after a crash.
    pub fn named(&mut self, container: Remembered) {
        self.add(&Line::Named(Box::new(container)));
    }

    fn add(&mut self, line: &Line) {
        let Some(file) = &mut self.file else { return };
        let added = serde_json::to_vec(line).map_err(io::Error::from);
        let added = added.and_then(|mut text| {
            text.push(b'\n');
            file.write_all(&text)
        });
        if let Err(error) = added {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if self.file.take().is_some() {
            tracing::warn!("cannot keep the account, a crash would cost evidence: {error}");
        }
        remove(&self.directory);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn mark(bytes: u64) -> Mark {
        Mark {
            position: Position { inode: 1, bytes },
            ..Mark::default()
        }
    }

    #[test]
    fn the_last_mark_counts_and_a_line_that_was_cut_off_does_not() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), None);
        let mut book = Book::new(root.path(), 7, Timestamp::UNIX_EPOCH);
        let told = book.told();
        book.opened("before the first account: nobody needs it", mark(0));
        book.save(Account {
            generation: 5,
            logs: [("a".to_owned(), mark(1))].into(),
            ..Account::default()
        });
        assert_eq!(*told.borrow(), 5);
        book.opened("a", mark(2));
        book.opened("b", mark(3));
        let path = root.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let account = read(root.path()).unwrap().unwrap();
        assert_eq!((account.instance, account.generation), (7, 5));
        assert_eq!(account.logs, [("a".to_owned(), mark(2))].into());
    }

    #[test]
    fn garbage_is_no_account() {
        let root = tempfile::tempdir().unwrap();
        for garbage in ["", "\n", "{}", "garbage", "{\"version\":1}", "\u{0}\u{0}"] {
            fs::write(root.path().join(FILE), garbage).unwrap();
            assert!(read(root.path()).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn leftovers_are_none() {
        let root = tempfile::tempdir().unwrap();
        let mut book = Book::new(root.path(), 7, Timestamp::UNIX_EPOCH);
        book.save(Account::default());
        book.save(Account::default());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
