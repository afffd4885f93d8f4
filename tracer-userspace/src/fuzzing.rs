//! What fuzzing calls, by the name of its target in `fuzz/`. Whatever the bytes are, none of these
//! may panic; the tests replay the seeds of every target, whole and damaged.

use std::{cell::RefCell, path::Path};

#[cfg(feature = "rings")]
use crate::decode::{event, process, wire};
pub use crate::import::fuzzing::{
    capture, cargowall, gadget, hubble, lines, suricata, tetragon, zeek,
};
use crate::{
    decode::{dns as names, first_bytes as first, http, quic as initials, socks, tls as hello},
    foreign, import,
    policy::{document, evidence::Evidence},
    ranges::{self, Ranges},
};

/// Reads arbitrary bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("capture", capture),
    ("cargowall", cargowall),
    ("dns", dns),
    ("evidence", evidence),
    ("file", file),
    ("first_bytes", first_bytes),
    ("foreign", foreign_list),
    ("gadget", gadget),
    ("hubble", hubble),
    ("lines", lines),
    #[cfg(feature = "rings")]
    ("marks", marks),
    ("policy", policy),
    ("quic", quic),
    ("published_ranges", published_ranges),
    #[cfg(feature = "rings")]
    ("rings", rings),
    ("spans", spans),
    ("suricata", suricata),
    ("tetragon", tetragon),
    ("tls", tls),
    ("zeek", zeek),
];

/// A DNS message, alone and in a stream.
pub fn dns(bytes: &[u8]) {
    let _ = names::read(bytes);
    let mut rest = bytes;
    while let Some((message, length)) = names::first_in_stream(rest) {
        let _ = names::read(message);
        rest = &rest[length..];
    }
}

/// A message of a program that says which of its tools is at work, and the answer.
///
/// # Panics
/// What was taken is longer than a name may be, or the answer is no JSON.
#[cfg(feature = "rings")]
pub fn marks(bytes: &[u8]) {
    use crate::decode::marker::{Done, NAME, Request, parse, reply};
    let heard = parse(bytes);
    match &heard {
        Ok(Request::Begin(begin)) => assert!(begin.tool.len() <= NAME && begin.call.len() <= NAME),
        Ok(Request::End { call }) => assert!(call.len() <= NAME),
        Ok(
            Request::Hello(_)
            | Request::Use(_)
            | Request::Shared
            | Request::Unsaid
            | Request::Settled,
        )
        | Err(_) => {}
    }
    let answer = reply(heard.map(|_| Done::Fine));
    assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok());
}

/// OTLP, in either encoding.
pub fn spans(bytes: &[u8]) {
    let mut book = crate::spans::book::Book::default();
    if let Ok(decoded) = crate::spans::json::decode(bytes) {
        book.add(decoded.spans);
    }
    #[cfg(feature = "capture")]
    if let Ok(decoded) = crate::spans::protobuf::decode(bytes) {
        book.add(decoded.spans);
    }
    let subject = crate::spans::book::Subject {
        last_ns: u64::MAX,
        is_one_command: true,
        ..Default::default()
    };
    let _ = book.find(&subject);
}

/// The first bytes of a connection: proxies, HTTP, TLS.
///
/// # Panics
/// More bytes say less.
pub fn first_bytes(bytes: &[u8]) {
    let _ = http::read(bytes);
    let _ = socks::read(bytes);
    let whole = first::read(bytes);
    let begun = first::read(&bytes[..bytes.len() / 2]);
    // What was complete stays so.
    assert!(!begun.is_complete || begun == whole || bytes.len() > first::MAX_FIRST_BYTES);
}

/// A ClientHello, in records and without.
pub fn tls(bytes: &[u8]) {
    let _ = hello::from_records(bytes);
    let _ = hello::from_handshake(bytes);
}

/// Datagrams of QUIC, each with its length before it.
pub fn quic(bytes: &[u8]) {
    let mut datagrams = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (datagram, after) = after.split_at(length);
        datagrams.push(datagram);
        rest = after;
    }
    let begun = datagrams
        .first()
        .copied()
        .and_then(initials::Initials::begin);
    if let Some(mut initials) = begun {
        for datagram in datagrams {
            let _ = initials.push(datagram);
        }
    }
}

/// A policy.
///
/// # Panics
/// Merging nothing into it changes it.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if document::parse(text).is_ok() {
        assert_eq!(
            document::merge(text, &[], &Ranges::default()).as_deref(),
            Ok(text)
        );
    }
}

/// The evidence beside a policy.
pub fn evidence(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Evidence::parse(text);
    }
}

/// Somebody else's list in force.
pub fn foreign_list(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = foreign::read(text, "w");
    }
}

/// A cloud's published list of prefixes, and our table of them.
pub fn published_ranges(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = ranges::read(text);
        let _ = Ranges::parse(text);
    }
}

/// An event of any of the kernel's rings.
///
/// # Panics
/// What follows an event, as the rest of its slot does, changes it.
#[cfg(feature = "rings")]
pub fn rings(bytes: &[u8]) {
    let longer = [bytes, &[0xff; 64]].concat();
    let (news, process, piece) = (
        event::decode(bytes),
        process::decode(bytes),
        wire::decode(bytes),
    );
    assert!(news.is_none() || news == event::decode(&longer));
    assert!(process.is_none() || process == process::decode(&longer));
    assert!(piece.is_none() || piece == wire::decode(&longer));
}

thread_local! {
    /// Where this thread's bytes become a file.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A whole file, packed or not, from recognising it to its candidates.
pub fn file(bytes: &[u8]) {
    FOLDER.with_borrow_mut(|folder| {
        if folder.is_none() {
            *folder = tempfile::tempdir().ok();
        }
        let path = folder.as_ref().map(|folder| folder.path().join("input"));
        import::fuzzing::file(bytes, path.as_deref().unwrap_or(Path::new("/dev/null")));
    });
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::{fs, path::PathBuf};

    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder.join(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_target_has_seeds_and_survives_them() {
        for &(name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name}");
            seeds.iter().for_each(|seed| target(seed));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

        #[test]
        fn damaged_seeds_are_survived(
            changes in vec((any::<Index>(), any::<u8>()), 1..8), end in any::<Index>(),
        ) {
            for &(name, target) in TARGETS {
                for mut seed in seeds(name) {
                    for (at, byte) in &changes {
                        if let Some(length) = seed.len().checked_sub(1) {
                            let at = at.index(length + 1);
                            seed[at] = *byte;
                        }
                    }
                    target(&seed);
                    seed.truncate(end.index(seed.len() + 1));
                    target(&seed);
                }
            }
        }
    }
}
