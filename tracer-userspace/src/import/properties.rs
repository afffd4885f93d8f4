//! Whatever the bytes are, reading ends, says what it could not use, and never panics: samples of
//! every format, damaged at random, and noise.

use std::{fs, path::PathBuf};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    Settings, find, import, line,
    tools::{Table, Told},
};

/// Every sample of `tests/samples/logs`, and a line of the plain kind.
fn samples() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/logs");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "md"))
        .collect();
    paths.sort();
    let plain = b"{\"dest_ip\":\"192.0.2.1\",\"dest_port\":443,\"ts\":1.5}\n".to_vec();
    let read = paths.iter().map(|path| fs::read(path).unwrap());
    read.chain([plain]).collect()
}

/// A place in the text, and what is put there: bytes that mean something to some format, or any.
fn damage() -> impl Strategy<Value = (usize, usize, Vec<u8>)> {
    let telling: Vec<&[u8]> = vec![
        b"\"",
        b"{",
        b"}",
        b"[",
        b"\\",
        b"\t",
        b"\n",
        b"\r\n",
        b"\0",
        b"-",
        b"(empty)",
        b"#fields\t",
        b"#separator \\x09\n",
        b"#separator \\x0a\n",
        b"#set_separator\t\t\n",
        b"NaN",
        b"1e999",
        b"-1",
        b"70000",
        b"18446744073709551616",
        b"0177.0.0.1",
        b"::ffff:1.2.3.4",
        b"null",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"9999-12-31T23:59:59Z",
        b"-009999-01-01T00:00:00Z",
    ];
    let put = prop_oneof![
        select(telling).prop_map(<[u8]>::to_vec),
        vec(any::<u8>(), 0..6),
    ];
    (any::<prop::sample::Index>(), 0..40_usize, put)
        .prop_map(|(at, cut, put)| (at.index(1 << 16), cut, put))
}

fn damaged(mut text: Vec<u8>, damages: Vec<(usize, usize, Vec<u8>)>) -> Vec<u8> {
    for (at, cut, put) in damages {
        let at = at % (text.len() + 1);
        let end = (at + cut).min(text.len());
        text.splice(at..end, put);
    }
    text
}

/// Line by line, without files.
fn lines(text: &[u8]) -> Vec<Told> {
    let mut table = Table::default();
    let mut told = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let parsed = table.parse(line).unwrap_or_else(|| {
            line::parse(line).map(|parsed| match parsed {
                line::Parsed::Told(told) => told,
                line::Parsed::Record(_)
                | line::Parsed::Destination(_)
                | line::Parsed::UnknownType => Told::Nothing,
            })
        });
        match parsed {
            Ok(line) => told.push(line),
            // One short sentence, whatever the line was.
            Err(reason) => assert!(!reason.is_empty() && reason.len() < 1000, "{reason}"),
        }
    }
    told
}

#[test]
fn every_sample_tells_of_destinations() {
    for sample in samples() {
        let told = lines(&sample);
        assert!(!told.is_empty(), "{}", String::from_utf8_lossy(&sample));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_lines_are_survived(
        sample in select(samples()), damages in vec(damage(), 1..8),
    ) {
        lines(&damaged(sample, damages));
    }

    #[test]
    fn noise_is_survived(bytes in vec(any::<u8>(), 0..400)) {
        lines(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Through the front door: files, archives, the thread that reads. Twice the same gives the same.
    #[test]
    fn damaged_files_are_read_or_refused(
        samples in vec((select(samples()), vec(damage(), 0..4)), 1..4),
        pack in select(vec!["plain", "gzip", "zstd"]), cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (at, (sample, damages)) in samples.into_iter().enumerate() {
            let text = damaged(sample, damages);
            let packed = match pack {
                "gzip" => {
                    let mut encoder =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    std::io::Write::write_all(&mut encoder, &text).unwrap();
                    encoder.finish().unwrap()
                }
                "zstd" => zstd::encode_all(&text[..], 1).unwrap(),
                _plain => text,
            };
            // Some are cut short.
            let end = if at == 0 { packed.len() } else { cut.index(packed.len() + 1) };
            fs::write(folder.path().join(format!("{at}.jsonl")), &packed[..end]).unwrap();
        }
        let read = || import(&find(&[folder.path().to_owned()]).unwrap(), &Settings::default());
        let same = match (read(), read()) {
            (Ok(one), Ok(other)) => {
                one.workloads == other.workloads
                    && one.problems == other.problems
                    && one.notes == other.notes
            }
            (Err(one), Err(other)) => one.to_string() == other.to_string(),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        prop_assert!(same);
    }
}
