//! The log of a recording held against the truth: which call went where.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use lab::Log;
use serde_json::Value;

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) tool: String,
    pub(crate) id: String,
}

/// Which call each destination belongs to, by address and port.
#[derive(Debug)]
pub(crate) struct Truth(pub(crate) BTreeMap<String, Call>);

/// How many flows were put down to what, summed over records.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) by_attribution: BTreeMap<String, u64>,
    /// Put down to another call, or ambiguous without the right one.
    pub(crate) wrong: Vec<String>,
    /// Put down to nobody.
    pub(crate) nobodys: Vec<String>,
    /// How they were known, by tool.
    pub(crate) by_tool: BTreeMap<(String, String), u64>,
    pub(crate) total: u64,
}

impl Truth {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let calls = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| line[key].as_str().unwrap().to_owned();
            let (tool, id) = (word("tool"), word("call"));
            let url = word("url");
            let place = url.trim_start_matches("http://").trim_end_matches('/');
            (place.to_owned(), Call { tool, id })
        });
        Self(calls.collect())
    }
}

impl Score {
    pub(crate) fn of(log: &Log, truth: &Truth) -> Self {
        let mut score = Self::default();
        let mut missing: BTreeSet<&String> = truth.0.keys().collect();
        for flow in log.flows() {
            let place = format!(
                "{}:{}",
                flow["dest_ip"].as_str().unwrap_or_default(),
                flow["dest_port"]
            );
            if let Some(call) = truth.0.get(&place) {
                missing.remove(&place);
                score.add(call, flow);
            }
        }
        assert!(missing.is_empty(), "not in the log: {missing:?}");
        score
    }

    fn add(&mut self, call: &Call, flow: &Value) {
        let count = flow["count"].as_u64().unwrap();
        let tool = &flow["tool"];
        self.total += count;
        let attribution = tool["attribution"].as_str().unwrap_or("nobody");
        *self
            .by_attribution
            .entry(attribution.to_owned())
            .or_default() += count;
        let key = (call.tool.clone(), attribution.to_owned());
        *self.by_tool.entry(key).or_default() += count;
        let is_call = |said: &Value| said["name"] == *call.tool && said["call_id"] == *call.id;
        let is_right = match tool["among"].as_array() {
            Some(among) => among.iter().any(is_call) || tool["among_cut"] == true,
            None => is_call(tool),
        };
        let told = || format!("{call:?}: {flow}");
        if tool.is_null() {
            self.nobodys.push(told());
        } else if !is_right {
            self.wrong.push(told());
        }
    }

    pub(crate) fn known_as(&self, attribution: &str) -> u64 {
        self.by_attribution.get(attribution).copied().unwrap_or(0)
    }

    /// Every flow is its own call's, or one of several of which it is one.
    #[track_caller]
    pub(crate) fn check(&self, flows: u64) {
        eprintln!("{self}");
        assert_eq!(self.wrong, Vec::<String>::new());
        assert_eq!(self.nobodys, Vec::<String>::new());
        assert_eq!(self.total, flows);
    }
}

impl fmt::Display for Score {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} flows: {:?}", self.total, self.by_attribution)?;
        for ((tool, attribution), count) in &self.by_tool {
            write!(to, "\n  {tool}: {count} {attribution}")?;
        }
        write!(
            to,
            "\n  wrong: {}, nobody's: {}",
            self.wrong.len(),
            self.nobodys.len()
        )
    }
}
