//! What was taken out of the kernel and may be in no log yet.
//!
//! Before a sweep's counts are deleted from the kernel they are appended to a file; an account of
//! the logs (`aggregate/account.rs`) says which sweeps those hold. Whoever dies in between, the
//! next daemon finds each count in exactly one place. Two files take turns, so that what is told
//! can be given up while the other is written to.
//!
//! The page cache outlives a killed process, and a pinned map does not outlive the machine: so
//! nothing here waits for the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use tracer_common::{
    flow::{FlowKey, FlowValue},
    socket::Answer,
    translation::Translation,
};

use super::losses::Losses;

const FILES: [&str; 2] = [".daemon.journal.0", ".daemon.journal.1"];

/// A file of this size is given up as soon as the other one may be written to.
const FILE_BYTES: u64 = 4 << 20;

/// No file grows beyond this size, which it has if the logs' account cannot be saved.
const MOST_BYTES: u64 = 64 << 20;

/// "egtrjrn1"
const MAGIC: u64 = u64::from_le_bytes(*b"egtrjrn1");

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The sweep that it is, or that it came before.
    pub generation: u64,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An event as it stood in the ring buffer.
    News(Vec<u8>),
    Sweep(Box<Sweep>),
}

/// What one sweep took out of the kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    pub losses: Losses,
    pub counts: Vec<(FlowKey, FlowValue)>,
    pub translations: Vec<Translation>,
    pub answers: Vec<Answer>,
}

/// A sweep's JSON, before its counts.
#[derive(Deserialize, Serialize)]
struct Told {
    losses: Losses,
    /// Bytes of [`Translation`]s.
    translations: Vec<Vec<u8>>,
    /// Bytes of [`Answer`]s.
    #[serde(default)]
    answers: Vec<Vec<u8>>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    magic: u64,
    /// The maps that it was taken from.
    instance: u64,
    generation: u64,
    /// Of JSON, or of news.
    bytes: u32,
    /// After the bytes; [`NO_SWEEP`] for news.
    entries: u32,
}

const NO_SWEEP: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Entry {
    key: FlowKey,
    value: FlowValue,
}

/// The writing end.
#[derive(Debug)]
pub struct Journal {
    instance: u64,
    files: [Part; 2],
    current: usize,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Part {
    file: File,
    bytes: u64,
    /// The newest generation in it.
    last: u64,
}

impl Journal {
    /// Begins an empty journal. What was in it must be accounted for by now.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Path, instance: u64) -> io::Result<Self> {
        let part = |name: &str| {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(directory.join(name))?;
            file.set_len(0)?;
            io::Result::Ok(Part {
                file,
                bytes: 0,
                last: 0,
            })
        };
        Ok(Self {
            instance,
            files: [part(FILES[0])?, part(FILES[1])?],
            current: 0,
            buffer: Vec::new(),
        })
    }

    /// Adds an event that the sweep `generation` must not be taken in without.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn news(&mut self, generation: u64, event: &[u8]) -> io::Result<()> {
        self.start(generation, event, NO_SWEEP);
        self.append(generation)
    }

    /// Adds a sweep. Everything up to the sweep `told` is in the logs.
    ///
    /// # Errors
    /// The disk refuses: then the sweep is not in the journal.
    pub fn sweep(&mut self, generation: u64, sweep: &Sweep, told: u64) -> io::Result<()> {
        self.take_turns(told)?;
        let json = serde_json::to_vec(&Told {
            losses: sweep.losses.clone(),
            translations: bytes_of_all(&sweep.translations),
            answers: bytes_of_all(&sweep.answers),
        })?;
        self.start(generation, &json, sweep.counts.len() as u32);
        for (key, value) in &sweep.counts {
            let entry = Entry {
                key: *key,
                value: *value,
            };
            self.buffer.extend_from_slice(bytemuck::bytes_of(&entry));
        }
        self.append(generation)
    }

    fn take_turns(&mut self, told: u64) -> io::Result<()> {
        let [current, other] = [self.current, 1 - self.current];
        let Part { bytes, last, .. } = self.files[current];
        let is_due = bytes >= FILE_BYTES || (bytes > 0 && last <= told);
        if self.files[other].last <= told && is_due {
            self.files[other].file.set_len(0)?;
            self.files[other].bytes = 0;
            self.current = other;
        }
        Ok(())
    }

    fn start(&mut self, generation: u64, bytes: &[u8], entries: u32) {
        let header = Header {
            magic: MAGIC,
            instance: self.instance,
            generation,
            bytes: bytes.len() as u32,
            entries,
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(bytemuck::bytes_of(&header));
        self.buffer.extend_from_slice(bytes);
    }

    fn append(&mut self, generation: u64) -> io::Result<()> {
        let part = &mut self.files[self.current];
        if part.bytes + self.buffer.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(
                "it is full: the account of what the logs hold could not be saved for too long",
            ));
        }
        if let Err(error) = part.file.write_all(&self.buffer) {
            // Half an entry would end the reading there.
            part.file.set_len(part.bytes)?;
            return Err(error);
        }
        part.bytes += self.buffer.len() as u64;
        part.last = generation;
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }
}

/// What a journal holds of `instance` after the sweep `told`, in order.
#[must_use]
pub fn read(directory: &Path, instance: u64, told: u64) -> Vec<Frame> {
    let mut frames: Vec<Frame> = FILES
        .iter()
        .flat_map(|name| read_part(&directory.join(name), instance))
        .filter(|frame| frame.generation > told)
        .collect();
    // An event belongs before the sweep that follows it.
    frames.sort_by_key(|frame| {
        let is_sweep = matches!(frame.content, Content::Sweep(_));
        (frame.generation, is_sweep)
    });
    frames
}

/// Forgets everything.
pub fn remove(directory: &Path) {
    for name in FILES {
        let _absent = std::fs::remove_file(directory.join(name));
    }
}

fn read_part(path: &PathBuf, instance: u64) -> Vec<Frame> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let mut rest = bytes.as_slice();
    let mut frames = Vec::new();
    // An entry that was cut off is the last, and its counts are still in the kernel.
    while let Some((header, content)) = next(&mut rest) {
        if header.instance == instance {
            frames.push(Frame {
                generation: header.generation,
                content,
            });
        }
    }
    frames
}

fn next(rest: &mut &[u8]) -> Option<(Header, Content)> {
    let header: Header = bytemuck::pod_read_unaligned(rest.get(..size_of::<Header>())?);
    if header.magic != MAGIC {
        return None;
    }
    let bytes_end = size_of::<Header>() + header.bytes as usize;
    let bytes = rest.get(size_of::<Header>()..bytes_end)?;
    if header.entries == NO_SWEEP {
        *rest = &rest[bytes_end..];
        return Some((header, Content::News(bytes.to_owned())));
    }
    let entries_end = bytes_end + header.entries as usize * size_of::<Entry>();
    let counts = rest
        .get(bytes_end..entries_end)?
        .chunks_exact(size_of::<Entry>())
        .map(bytemuck::pod_read_unaligned::<Entry>)
        .map(|entry| (entry.key, entry.value))
        .collect();
    let told: Told = serde_json::from_slice(bytes).ok()?;
    *rest = &rest[entries_end..];
    let sweep = Sweep {
        losses: told.losses,
        counts,
        translations: read_all(&told.translations),
        answers: read_all(&told.answers),
    };
    Some((header, Content::Sweep(Box::new(sweep))))
}

fn bytes_of_all<T: Pod>(all: &[T]) -> Vec<Vec<u8>> {
    let bytes = |each| bytemuck::bytes_of(each).to_vec();
    all.iter().map(bytes).collect()
}

/// What is not as long as it should be is left out.
fn read_all<T: Pod>(all: &[Vec<u8>]) -> Vec<T> {
    let read = |bytes: &Vec<u8>| bytemuck::try_pod_read_unaligned(bytes).ok();
    all.iter().filter_map(read).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::fs;

    use super::*;

    fn sweep_of(n: usize) -> Sweep {
        Sweep {
            counts: vec![(FlowKey::zeroed(), FlowValue::zeroed()); n],
            ..Sweep::default()
        }
    }

    fn whole() -> Sweep {
        Sweep {
            translations: vec![Translation {
                port: 7,
                ..Translation::zeroed()
            }],
            answers: vec![Answer {
                port: 8,
                ..Answer::zeroed()
            }],
            ..sweep_of(3)
        }
    }

    fn generations(directory: &Path, told: u64) -> Vec<u64> {
        let frames = read(directory, 7, told);
        frames.iter().map(|frame| frame.generation).collect()
    }

    #[test]
    fn what_is_not_told_is_kept_in_order() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(root.path(), 7).unwrap();
        for generation in 1..=9 {
            journal.news(generation, b"news").unwrap();
            let told = generation.saturating_sub(3);
            journal.sweep(generation, &whole(), told).unwrap();
            let kept = generations(root.path(), told);
            let expected: Vec<u64> = (told + 1..=generation).flat_map(|g| [g, g]).collect();
            assert_eq!(kept, expected);
        }
        assert_eq!(read(root.path(), 8, 0), []);
        let frames = read(root.path(), 7, 8);
        assert_eq!(frames[0].content, Content::News(b"news".to_vec()));
        assert_eq!(frames[1].content, Content::Sweep(Box::new(whole())));
    }

    #[test]
    fn what_is_told_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(root.path(), 7).unwrap();
        for generation in 1..200 {
            let told = generation - 1;
            journal.sweep(generation, &sweep_of(100), told).unwrap();
        }
        let bytes = |name: &str| fs::metadata(root.path().join(name)).unwrap().len();
        assert!(FILES.iter().map(|name| bytes(name)).sum::<u64>() < 60_000);
        assert_eq!(generations(root.path(), 198), [199]);
    }

    #[test]
    fn what_is_never_told_fills_no_disk() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(root.path(), 7).unwrap();
        let bytes = || {
            let length = |name: &&str| fs::metadata(root.path().join(name)).unwrap().len();
            FILES.iter().map(length).sum::<u64>()
        };
        let large = sweep_of(20_000);
        let mut sweep = |generation, told| journal.sweep(generation, &large, told);
        let refused = (1..100).find(|generation| sweep(*generation, 0).is_err());
        let last = refused.unwrap() - 1;
        assert!(bytes() <= 2 * MOST_BYTES);
        assert_eq!(generations(root.path(), 0), (1..=last).collect::<Vec<_>>());
        // Once the account is there again, so is the room.
        sweep(200, 200).unwrap();
        assert_eq!(generations(root.path(), 199), [200]);
    }

    #[test]
    fn an_entry_that_was_cut_off_is_none() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(root.path(), 7).unwrap();
        journal.sweep(1, &sweep_of(2), 0).unwrap();
        journal.sweep(2, &sweep_of(2), 0).unwrap();
        let path = root.path().join(FILES[0]);
        let whole = fs::read(&path).unwrap();
        for length in whole.len() / 2..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(generations(root.path(), 0), [1], "{length}");
        }
        fs::write(&path, b"garbage that is longer than a header is, by far").unwrap();
        assert_eq!(generations(root.path(), 0), Vec::<u64>::new());
    }
}
