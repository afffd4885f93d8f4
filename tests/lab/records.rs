//! Reading what `egress-tracer` wrote, as plain JSON: a test then sees what users' scripts see.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::wait::wait_until;

/// The records of one `flows.jsonl`, in order.
#[derive(Clone, Debug)]
pub struct Log(pub Vec<Value>);

impl Log {
    /// Reads a log. A last line without its newline is still being written and left out.
    ///
    /// # Errors
    /// When the file cannot be read or a line is not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Reads again and again until `enough` holds.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn read_until(
        path: &Path,
        limit: Duration,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let what = format!("{} holds what is expected", path.display());
        wait_until(&what, limit, || {
            // The file may not be there yet.
            Ok(Self::read(path).ok().filter(&enough))
        })
    }

    /// The records whose `type` is `kind`.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |record| record["type"] == kind)
    }

    /// The flow records that tell of an attempt, or of a socket that was open before. What became
    /// of an attempt may be told an interval later, in a record that counts nothing: those are in
    /// [`Self::later_too`] alone, so that no test depends on when an interval ended.
    pub fn flows(&self) -> impl Iterator<Item = &Value> {
        self.of_type("flow")
            .filter(|flow| flow["count"] != 0 || flow["channel"] == "preexisting")
    }

    /// Of [`Self::flows`] those to `ip` (and `port`, when given).
    pub fn to<'a>(&'a self, ip: &'a str, port: Option<u16>) -> impl Iterator<Item = &'a Value> {
        self.flows().filter(move |flow| is_to(flow, ip, port))
    }

    /// Every flow record to `ip` (and `port`, when given).
    pub fn later_too<'a>(
        &'a self,
        ip: &'a str,
        port: Option<u16>,
    ) -> impl Iterator<Item = &'a Value> {
        self.of_type("flow")
            .filter(move |flow| is_to(flow, ip, port))
    }

    /// How often something went to `ip` and `port`: the sum of `count`.
    #[must_use]
    pub fn count(&self, ip: &str, port: u16) -> u64 {
        self.to(ip, Some(port))
            .filter_map(|flow| flow["count"].as_u64())
            .sum()
    }

    /// How often it ended in `outcome`.
    #[must_use]
    pub fn outcome(&self, ip: &str, port: u16, outcome: &str) -> u64 {
        self.later_too(ip, Some(port))
            .filter_map(|flow| flow["outcomes"][outcome].as_u64())
            .sum()
    }

    /// The names known for `ip`, each once.
    #[must_use]
    pub fn names(&self, ip: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .later_too(ip, None)
            .filter_map(|flow| flow["names"].as_array())
            .flatten()
            .filter_map(|name| name["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

fn is_to(flow: &Value, ip: &str, port: Option<u16>) -> bool {
    flow["dest_ip"] == ip && port.is_none_or(|port| flow["dest_port"] == port)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const LINES: &str = r#"{"type":"start"}
{"type":"flow","dest_ip":"198.51.100.1","dest_port":443,"count":2,"names":[{"name":"b.example"}]}
{"type":"flow","dest_ip":"198.51.100.1","dest_port":443,"count":3,"names":[{"name":"a.example"},{"name":"b.example"}]}
{"type":"flow","dest_ip":"198.51.100.1","dest_port":80,"count":1}
{"type":"flow","dest_ip":"198.51.100.1","dest_port":443,"count":0,"outcomes":{"refused":1}}
{"type":"fl"#;

    #[test]
    fn sums_over_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), LINES).unwrap();
        let log = Log::read(file.path()).unwrap();
        assert_eq!((log.0.len(), log.flows().count()), (5, 3));
        assert_eq!(log.count("198.51.100.1", 443), 5);
        assert_eq!(log.outcome("198.51.100.1", 443, "refused"), 1);
        assert_eq!(log.to("198.51.100.1", None).count(), 3);
        assert_eq!(log.names("198.51.100.1"), ["a.example", "b.example"]);
    }
}
