//! One segment of a log on disk: opened, read to its end, cut back, compressed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{Ending, LogError, Position, at};
use crate::record::Record;

/// How long a reader that asks for the lock is waited for.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

pub(super) fn open_segment(path: &Path) -> Result<File, LogError> {
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
pub(super) fn read_segment(file: &mut File) -> io::Result<(Sha256, Ending, u64, u64)> {
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
pub(super) fn finish_compressing(directory: &Path) -> io::Result<()> {
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
pub(super) fn cut_back(file: &File, keep: Option<Position>) -> io::Result<bool> {
    let found = file.metadata()?;
    let Some(keep) = keep.filter(|keep| keep.inode == found.ino() && keep.bytes <= found.len())
    else {
        return Ok(false);
    };
    file.set_len(keep.bytes)?;
    Ok(true)
}

pub(super) fn is_same(found: &fs::Metadata, file: &File) -> bool {
    file.metadata()
        .is_ok_and(|ours| (ours.dev(), ours.ino()) == (found.dev(), found.ino()))
}
