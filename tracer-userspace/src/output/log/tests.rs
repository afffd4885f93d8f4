//! Rotation, reopening, and what a crash leaves behind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

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

/// Every record of every segment, by hand.
fn all_lines(directory: &Path) -> usize {
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.extension().is_some_and(|end| end == "zst") {
        true => zstd::decode_all(File::open(path).unwrap()).unwrap(),
        false => fs::read(path).unwrap(),
    };
    let lines = |bytes: Vec<u8>| bytes.iter().filter(|byte| **byte == b'\n').count();
    paths
        .filter(|path| path.is_file())
        .map(read)
        .map(lines)
        .sum()
}

#[test]
fn a_rotation_that_fails_leaves_the_segment_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path());
    log.append(&stats()).unwrap();
    let in_the_way = root.path().join(NEXT_SEGMENT);
    fs::create_dir(&in_the_way).unwrap();
    log.rotate(&envelope(()), Timestamp::UNIX_EPOCH)
        .unwrap_err();
    log.append(&stats()).unwrap();
    log.flush().unwrap();
    let text = fs::read_to_string(root.path().join(OPEN_SEGMENT)).unwrap();
    assert_eq!(text.matches("\"type\":\"rotate\"").count(), 0, "{text}");
    fs::remove_dir(&in_the_way).unwrap();
    log.rotate(&envelope(()), Timestamp::UNIX_EPOCH).unwrap();
    log.append(&stop()).unwrap();
    log.close().unwrap();
    // Two, the end of the segment, and the last.
    assert_eq!(all_lines(root.path()), 4);
}

#[test]
fn a_segment_that_could_not_be_compressed_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path());
    log.append(&stats()).unwrap();
    log.rotate(&envelope(()), Timestamp::UNIX_EPOCH).unwrap();
    log.close().unwrap();
    // As it was before.
    let packed = root.path().join("flows.1.jsonl.zst");
    let plain = zstd::decode_all(File::open(&packed).unwrap()).unwrap();
    fs::write(root.path().join("flows.1.jsonl"), plain).unwrap();
    fs::remove_file(packed).unwrap();
    log.append(&stats()).unwrap();
    log.rotate(&envelope(()), Timestamp::UNIX_EPOCH).unwrap();
    log.close().unwrap();
    assert_eq!(all_lines(root.path()), 4);
}
