//! The sums over a log, all of its segments, as anybody's script would make them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What a log says in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) flows: u64,
    pub(super) count: u64,
    pub(super) destinations: BTreeSet<String>,
    /// Gaps after which a destination may be missing, and how many observations they tell of.
    pub(super) missing: u64,
    pub(super) missed: u64,
    /// All other gaps.
    pub(super) details: u64,
}

/// Which parts of a log are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Counts,
    /// Every destination too: that takes memory.
    Destinations,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(default)]
    count: u64,
    dest_ip: Option<&'a str>,
    severity: Option<&'a str>,
    lost: Option<u64>,
}

impl Sums {
    /// Of the log in `folder`; of no log when nothing was written yet.
    pub(super) fn read(folder: &Path, look: Look) -> Result<Self> {
        let mut sums = Self::default();
        for segment in segments(folder)? {
            sums.add(&segment, look)
                .with_context(|| segment.display().to_string())?;
        }
        Ok(sums)
    }

    fn add(&mut self, segment: &Path, look: Look) -> Result<()> {
        let mut lines = BufReader::new(open(segment)?);
        let mut line = String::new();
        // A line without its end is still being written.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.add_line(
                &serde_json::from_str(&line).with_context(|| line.clone())?,
                look,
            );
            line.clear();
        }
        Ok(())
    }

    fn add_line(&mut self, line: &Line<'_>, look: Look) {
        match (line.r#type, line.severity) {
            ("flow", _) => {
                self.flows += 1;
                self.count += line.count;
                let ip = line.dest_ip.filter(|_| look == Look::Destinations);
                self.destinations.extend(ip.map(str::to_owned));
            }
            ("gap", Some("destinations")) => {
                self.missing += 1;
                self.missed += line.lost.unwrap_or_default();
            }
            ("gap", _) => self.details += 1,
            _other => {}
        }
    }
}

fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(OsStr::to_string_lossy);
        let name = name.unwrap_or_default();
        if name.starts_with("flows.") && (name.ends_with(".jsonl") || name.ends_with(".zst")) {
            found.push(path);
        }
    }
    Ok(found)
}

fn open(segment: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(segment)?;
    if segment.extension() == Some(OsStr::new("zst")) {
        return Ok(Box::new(zstd::Decoder::new(file)?));
    }
    Ok(Box::new(file))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn sums_go_over_segments_and_leave_out_a_line_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let closed =
            "{\"type\":\"flow\",\"count\":2,\"dest_ip\":\"127.0.0.1\"}\n{\"type\":\"rotate\"}\n";
        let open = "{\"type\":\"flow\",\"count\":3,\"dest_ip\":\"127.0.0.1\"}\n{\"type\":\"gap\",\"severity\":\"destinations\",\"lost\":4}\n{\"type\":\"gap\",\"severity\":\"detail\"}\n{\"type\":\"fl";
        let closed = zstd::encode_all(closed.as_bytes(), 1).unwrap();
        fs::write(folder.path().join("flows.1.jsonl.zst"), closed).unwrap();
        fs::write(folder.path().join("flows.jsonl"), open).unwrap();
        fs::write(folder.path().join("policy.toml"), "").unwrap();
        let sums = Sums::read(folder.path(), Look::Destinations).unwrap();
        let expected = Sums {
            flows: 2,
            count: 5,
            destinations: BTreeSet::from(["127.0.0.1".to_owned()]),
            missing: 1,
            missed: 4,
            details: 1,
        };
        assert_eq!(sums, expected);
    }
}
