//! The log of one workload: JSON lines in `flows.jsonl`, rotated to `flows.1.jsonl.zst` and on.
//!
//! The writer holds an exclusive lock on the open segment, which tells readers that an open end
//! is as it should be. A line is on disk whole or not at all.

mod segment;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::SystemTime,
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
use segment::{cut_back, finish_compressing, is_same, open_segment, read_segment};

/// The open segment's name.
pub const OPEN_SEGMENT: &str = "flows.jsonl";

/// The one after it, while it is being made.
const NEXT_SEGMENT: &str = ".flows.next";

/// Lines that may wait for a disk that refuses them.
const PENDING_BYTES: usize = 16 << 20;

/// Lines are handed to the kernel in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

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
        // Of an attempt that failed: it would be overwritten.
        finish_compressing(&self.directory)?;
        let next = self.directory.join(NEXT_SEGMENT);
        let file = open_segment(&next).map_err(io::Error::other)?;
        file.set_len(0)?;
        self.shift()?;
        self.end_segment(envelope, now)?;
        self.closed.push(self.source());
        let path = self.directory.join(OPEN_SEGMENT);
        fs::rename(&path, self.directory.join("flows.1.jsonl"))?;
        fs::rename(next, path)?;
        self.file = file;
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

fn at(path: &Path, error: io::Error) -> LogError {
    LogError::Io {
        path: path.to_owned(),
        error,
    }
}
