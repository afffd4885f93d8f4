//! The log of one workload: JSON lines in `flows.jsonl`, rotated to `flows.1.jsonl.zst` and on.
//!
//! The writer holds an exclusive lock on the open segment, which tells readers that an open end
//! is as it should be. A line is on disk whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files::make_directory;
use crate::{
    harmless,
    policy::observe::Source,
    record::{Entry, Record, Rotate, SCHEMA},
};

/// The open segment's name.
pub const OPEN_SEGMENT: &str = "flows.jsonl";

/// Lines that may wait for a disk that refuses them.
const PENDING_BYTES: usize = 16 << 20;

/// Lines are handed to the kernel in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// How long a reader that asks for the lock is waited for.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// When a segment is closed, and how many closed ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub bytes: u64,
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            bytes: 100 << 20,
            keep: 10,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot write {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is being written to by another egress-tracer")]
    Held { path: PathBuf },
}

/// The end of a log that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is none, or it is empty.
    New,
    /// The last record is a `stop`.
    Closed,
    /// Whoever wrote it did not end in good order.
    Unclosed,
}

/// How far an open segment goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Of the segment's file.
    pub inode: u64,
    /// On disk, whole lines.
    pub bytes: u64,
}

/// A log that was opened.
#[derive(Debug)]
pub struct Opened {
    pub log: LogWriter,
    pub ending: Ending,
    /// It is the segment of the position that was given, and ends there now.
    pub resumed: bool,
    /// When it was written to before; `None` if it is new.
    pub modified: Option<SystemTime>,
}

/// The writing end of one workload's log.
#[derive(Debug)]
pub struct LogWriter {
    directory: PathBuf,
    file: File,
    rotation: Rotation,
    /// Bytes of whole lines on disk.
    written: u64,
    /// Lines not yet on disk.
    pending: Vec<u8>,
    pending_records: u64,
    digest: Sha256,
    records: u64,
    /// Records given up because the disk refused them.
    lost: u64,
    /// The disk refused the last attempt: only an explicit flush tries again.
    is_refused: bool,
    compressing: Option<JoinHandle<io::Result<()>>>,
    /// Segments closed since they were last asked for.
    closed: Vec<Source>,
    /// Segments deleted, ever.
    deleted: u64,
    /// Due for rotation at this size: more than the setting after a rotation failed.
    full_at: u64,
}

impl LogWriter {
    /// Opens the log in `directory` to append to it, and says how it ended. What the segment has
    /// beyond `keep`, if that is about it, is cut off.
    ///
    /// # Errors
    /// The directory or file cannot be written, or another process holds it.
    pub fn open(
        directory: &Path,
        rotation: Rotation,
        keep: Option<Position>,
    ) -> Result<Opened, LogError> {
        let path = directory.join(OPEN_SEGMENT);
        make_directory(directory).map_err(|error| at(directory, error))?;
        finish_compressing(directory).map_err(|error| at(directory, error))?;
        let before = fs::metadata(&path).ok();
        let mut file = open_segment(&path)?;
        let resumed = cut_back(&file, keep).map_err(|error| at(&path, error))?;
        let (digest, ending, written, records) =
            read_segment(&mut file).map_err(|error| at(&path, error))?;
        let log = Self {
            directory: directory.to_owned(),
            file,
            rotation,
            written,
            pending: Vec::new(),
            pending_records: 0,
            digest,
            records,
            lost: 0,
            is_refused: false,
            compressing: None,
            closed: Vec::new(),
            deleted: 0,
            full_at: rotation.bytes,
        };
        Ok(Opened {
            log,
            ending,
            resumed,
            modified: before.and_then(|found| found.modified().ok()),
        })
    }

    /// Adds one record; it is on disk after [`Self::flush`] at the latest.
    ///
    /// # Errors
    /// The disk refuses. The record is kept for the next attempt, within bounds; beyond them it
    /// is only counted, for [`Self::take_lost`].
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.pending.len() >= PENDING_BYTES {
            self.lost += 1;
            return Ok(());
        }
        self.pending
            .extend_from_slice(harmless::json(record)?.as_bytes());
        self.pending.push(b'\n');
        self.pending_records += 1;
        if self.pending.len() >= PIECE_BYTES && !self.is_refused {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes out what is pending, whole lines only.
    ///
    /// # Errors
    /// The disk refuses; what it took of a line is taken back.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.pending);
        self.is_refused = written.is_err();
        if let Err(error) = written {
            self.file.set_len(self.written)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.digest.update(&self.pending);
        self.written += self.pending.len() as u64;
        self.records += self.pending_records;
        self.pending_records = 0;
        self.pending.clear();
        self.pending.shrink_to(PIECE_BYTES);
        Ok(())
    }

    /// Whether the open segment is due for rotation.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.is_refused && self.written + self.pending.len() as u64 >= self.full_at
    }

    /// How far the segment goes on disk.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn position(&self) -> io::Result<Position> {
        Ok(Position {
            inode: self.file.metadata()?.ino(),
            bytes: self.written,
        })
    }

    /// Records that are not on disk, and perhaps never will be.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.pending_records + self.lost
    }

    /// Closes the segment with a `rotate` record like `envelope` and begins the next one.
    /// Compression goes on in the background.
    ///
    /// # Errors
    /// A file cannot be renamed or made; the old segment is then still open.
    pub fn rotate(&mut self, envelope: &Entry<()>, now: Timestamp) -> io::Result<()> {
        // Should it fail, it is not tried again with every record.
        self.full_at = self.written + self.rotation.bytes;
        self.begin_segment(envelope, now)?;
        self.full_at = self.rotation.bytes;
        Ok(())
    }

    fn begin_segment(&mut self, envelope: &Entry<()>, now: Timestamp) -> io::Result<()> {
        // Whatever can fail comes first: a `rotate` record must be the segment's last.
        self.wait_for_compression()?;
        self.shift()?;
        self.end_segment(envelope, now)?;
        self.closed.push(self.source());
        let path = self.directory.join(OPEN_SEGMENT);
        fs::rename(&path, self.directory.join("flows.1.jsonl"))?;
        self.file = open_segment(&path).map_err(io::Error::other)?;
        (self.written, self.records, self.digest) = (0, 0, Sha256::new());
        let directory = self.directory.clone();
        self.compressing = Some(std::thread::spawn(move || finish_compressing(&directory)));
        Ok(())
    }

    /// Writes out what is pending and a `rotate` record after it: both, or no such record.
    fn end_segment(&mut self, envelope: &Entry<()>, now: Timestamp) -> io::Result<()> {
        self.flush()?;
        self.append(&rotation(envelope, now))?;
        self.flush().inspect_err(|_refused| {
            self.pending.clear();
            self.pending_records = 0;
        })
    }

    /// Opens the file again if somebody moved it away; the moved one ends in a `rotate` record
    /// like `envelope`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reopen(&mut self, envelope: &Entry<()>, now: Timestamp) -> Result<(), LogError> {
        let path = self.directory.join(OPEN_SEGMENT);
        let moved = fs::metadata(&path).map_or(true, |found| !is_same(&found, &self.file));
        if moved {
            self.end_segment(envelope, now)
                .map_err(|error| at(&path, error))?;
            self.closed.push(self.source());
            let mut file = open_segment(&path)?;
            let read = read_segment(&mut file).map_err(|error| at(&path, error))?;
            self.file = file;
            (self.digest, self.written, self.records) = (read.0, read.2, read.3);
        }
        Ok(())
    }

    /// What the open segment holds so far, on disk.
    #[must_use]
    pub fn source(&self) -> Source {
        let digest = self.digest.clone().finalize();
        Source {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            records: self.records,
        }
    }

    /// Segments closed since the last call.
    pub fn take_closed(&mut self) -> Vec<Source> {
        std::mem::take(&mut self.closed)
    }

    /// Records given up since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Segments deleted, ever.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.deleted
    }

    /// Flushes, and waits until every closed segment is compressed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        self.wait_for_compression()
    }

    fn wait_for_compression(&mut self) -> io::Result<()> {
        self.compressing.take().map_or(Ok(()), |thread| {
            thread
                .join()
                .unwrap_or_else(|_panic| Err(io::Error::other("compression failed")))
        })
    }

    /// Makes room for a new `flows.1`: every closed segment moves up, the oldest goes.
    fn shift(&mut self) -> io::Result<()> {
        let name = |number: u32| self.directory.join(format!("flows.{number}.jsonl.zst"));
        let oldest = name(self.rotation.keep);
        if self.rotation.keep > 0 && oldest.exists() {
            fs::remove_file(oldest)?;
            self.deleted += 1;
        }
        for number in (1..self.rotation.keep).rev() {
            if name(number).exists() {
                fs::rename(name(number), name(number + 1))?;
            }
        }
        Ok(())
    }
}

fn rotation(envelope: &Entry<()>, now: Timestamp) -> Record {
    Record::Rotate(Entry {
        schema: SCHEMA.to_owned(),
        ts: now,
        host: envelope.host.clone(),
        run: envelope.run.clone(),
        workload: envelope.workload.clone(),
        body: Rotate {
            next: OPEN_SEGMENT.to_owned(),
        },
    })
}

fn open_segment(path: &Path) -> Result<File, LogError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| at(path, error))?;
    // A reader that asks whether the log is held holds it for a moment itself.
    for _attempt in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(at(path, error)),
        }
    }
    Err(LogError::Held {
        path: path.to_owned(),
    })
}

/// Digest, ending, length and number of records of a segment. A last line that was cut off is
/// ended, so that the next record starts on a line of its own.
fn read_segment(file: &mut File) -> io::Result<(Sha256, Ending, u64, u64)> {
    let mut digest = Sha256::new();
    let mut records = 0;
    let mut last_line = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    file.seek(SeekFrom::Start(0))?;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        let bytes = &buffer[..length];
        digest.update(bytes);
        records += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        keep_last_line(&mut last_line, bytes);
    }
    if last_line.last().is_some_and(|byte| *byte != b'\n') {
        file.write_all(b"\n")?;
        digest.update(b"\n");
        records += 1;
    }
    let length = file.seek(SeekFrom::End(0))?;
    let is_stop = serde_json::from_slice(&last_line)
        .is_ok_and(|record| matches!(record, Record::Stop(_) | Record::Rotate(_)));
    let ending = match (length, is_stop) {
        (0, _) => Ending::New,
        (_, true) => Ending::Closed,
        (_, false) => Ending::Unclosed,
    };
    Ok((digest, ending, length, records))
}

/// Keeps the bytes from the start of the last line that `bytes` begins or continues.
fn keep_last_line(line: &mut Vec<u8>, bytes: &[u8]) {
    /// A record is shorter; of anything longer only the end would matter, and it is no record.
    const LONGEST: usize = 1 << 20;
    let before_end = &bytes[..bytes.len() - 1];
    if line.last() == Some(&b'\n') {
        line.clear();
    }
    match before_end.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => {
            line.clear();
            line.extend_from_slice(&bytes[at + 1..]);
        }
        None if line.len() < LONGEST => line.extend_from_slice(bytes),
        None => {}
    }
}

/// Compresses `flows.1.jsonl` to `flows.1.jsonl.zst`. At every moment one of the two is whole; a
/// reader that finds both counts them once.
fn finish_compressing(directory: &Path) -> io::Result<()> {
    let plain = directory.join("flows.1.jsonl");
    if !plain.exists() {
        return Ok(());
    }
    let mut compressed = tempfile::NamedTempFile::new_in(directory)?;
    zstd::stream::copy_encode(File::open(&plain)?, &mut compressed, 3)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    compressed.as_file().set_permissions(mode)?;
    compressed.as_file().sync_all()?;
    compressed.persist(directory.join("flows.1.jsonl.zst"))?;
    fs::remove_file(plain)
}

/// Cuts off what a segment has beyond a position in it. False if it is another file, or shorter.
fn cut_back(file: &File, keep: Option<Position>) -> io::Result<bool> {
    let found = file.metadata()?;
    let Some(keep) = keep.filter(|keep| keep.inode == found.ino() && keep.bytes <= found.len())
    else {
        return Ok(false);
    };
    file.set_len(keep.bytes)?;
    Ok(true)
}

fn is_same(found: &fs::Metadata, file: &File) -> bool {
    file.metadata()
        .is_ok_and(|ours| (ours.dev(), ours.ino()) == (found.dev(), found.ino()))
}

fn at(path: &Path, error: io::Error) -> LogError {
    LogError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::record::{Stats, Stop};

    fn envelope<T>(body: T) -> Entry<T> {
        Entry {
            schema: SCHEMA.to_owned(),
            ts: Timestamp::UNIX_EPOCH,
            host: "h".into(),
            run: "r".into(),
            workload: "w".into(),
            body,
        }
    }

    fn stats() -> Record {
        Record::Stats(envelope(Stats::default()))
    }

    fn stop() -> Record {
        let body = Stop {
            reason: "test".into(),
            records: 0,
            count: 0,
            exit_code: None,
        };
        Record::Stop(envelope(body))
    }

    fn open_at(directory: &Path, keep: Option<Position>) -> Opened {
        let rotation = Rotation {
            bytes: 500,
            keep: 2,
        };
        LogWriter::open(directory, rotation, keep).unwrap()
    }

    fn open(directory: &Path) -> (LogWriter, Ending) {
        let Opened { log, ending, .. } = open_at(directory, None);
        (log, ending)
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn tells_how_it_ended_and_continues_the_digest() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, ending) = open(root.path());
        assert_eq!(ending, Ending::New);
        log.append(&stats()).unwrap();
        log.close().unwrap();
        drop(log);

        let (mut log, ending) = open(root.path());
        assert_eq!(ending, Ending::Unclosed);
        log.append(&stop()).unwrap();
        log.close().unwrap();
        let text = fs::read(root.path().join(OPEN_SEGMENT)).unwrap();
        assert_eq!(
            log.source(),
            Source {
                sha256: sha256(&text),
                records: 2
            }
        );
        drop(log);
        assert_eq!(open(root.path()).1, Ending::Closed);
    }

    #[test]
    fn a_cut_line_stays_a_line_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(OPEN_SEGMENT), "{\"type\":\"fl").unwrap();
        let (mut log, ending) = open(root.path());
        assert_eq!(ending, Ending::Unclosed);
        log.append(&stop()).unwrap();
        log.close().unwrap();
        let text = fs::read_to_string(root.path().join(OPEN_SEGMENT)).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(log.source().sha256, sha256(text.as_bytes()));
    }

    #[test]
    fn what_is_beyond_a_position_is_cut_off_in_that_file_only() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = open(root.path());
        log.append(&stop()).unwrap();
        log.flush().unwrap();
        let kept = log.position().unwrap();
        log.append(&stats()).unwrap();
        log.close().unwrap();
        drop(log);

        let other = Position {
            inode: kept.inode + 1,
            ..kept
        };
        let too_far = Position {
            bytes: kept.bytes * 100,
            ..kept
        };
        for wrong in [other, too_far] {
            let opened = open_at(root.path(), Some(wrong));
            assert!(!opened.resumed);
            assert_eq!(opened.ending, Ending::Unclosed);
        }
        let opened = open_at(root.path(), Some(kept));
        assert!(opened.resumed && opened.modified.is_some());
        assert_eq!(opened.ending, Ending::Closed);
        assert_eq!(opened.log.position().unwrap(), kept);
    }

    #[test]
    fn one_writer_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let (_log, _) = open(root.path());
        let error = LogWriter::open(root.path(), Rotation::default(), None).unwrap_err();
        assert!(matches!(error, LogError::Held { .. }), "{error}");
    }

    #[test]
    fn rotates_compresses_and_keeps_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = open(root.path());
        for round in 0..4 {
            while !log.is_full() {
                log.append(&stats()).unwrap();
            }
            log.rotate(&envelope(()), Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(log.take_closed().len(), 1, "round {round}");
        }
        log.close().unwrap();
        let mut names: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["flows.1.jsonl.zst", "flows.2.jsonl.zst", "flows.jsonl"]
        );
        assert_eq!(log.deleted(), 2);
        let closed = File::open(root.path().join("flows.1.jsonl.zst")).unwrap();
        let text = String::from_utf8(zstd::stream::decode_all(closed).unwrap()).unwrap();
        assert!(
            text.lines().last().unwrap().contains("\"type\":\"rotate\""),
            "{text}"
        );
    }

    #[test]
    fn a_moved_file_is_opened_anew() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = open(root.path());
        log.append(&stats()).unwrap();
        log.flush().unwrap();
        fs::rename(
            root.path().join(OPEN_SEGMENT),
            root.path().join("kept.jsonl"),
        )
        .unwrap();
        log.reopen(&envelope(()), Timestamp::UNIX_EPOCH).unwrap();
        log.append(&stop()).unwrap();
        log.close().unwrap();
        let lines = |name: &str| {
            fs::read_to_string(root.path().join(name))
                .unwrap()
                .lines()
                .count()
        };
        assert_eq!((lines("kept.jsonl"), lines(OPEN_SEGMENT)), (2, 1));
        let kept = fs::read_to_string(root.path().join("kept.jsonl")).unwrap();
        assert!(kept.contains("\"type\":\"rotate\""), "{kept}");
    }
}
