//! `Unaddressed`: ways out without an IP destination, which no rule about addresses allows or denies.

use std::collections::BTreeMap;

use crate::{
    policy::seen::{ProcessNames, process_name},
    record::{Channel, Flow},
};

/// Kept of a workload: of more, the lowest. Of most channels there is one.
const MAX_WAYS: usize = 256;

/// Kept of a path: the kernel has 108 bytes for one.
const MAX_PATH: usize = 128;

/// What left without an IP destination, by how, and to whom (a machine, a Unix socket) where that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unaddressed(BTreeMap<(Channel, String), Way>);

/// How often, and who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub count: u64,
    pub processes: ProcessNames,
}

impl Unaddressed {
    /// Counts one record in.
    pub fn see(&mut self, flow: &Flow) {
        let to = match (&flow.dest_path, flow.dest_cid, flow.dest_cid_port) {
            (Some(path), _, _) => path.chars().take(MAX_PATH).collect(),
            (None, Some(cid), Some(port)) => format!("cid {cid} port {port}"),
            (None, Some(cid), None) => format!("cid {cid}"),
            (None, None, _) => String::new(),
        };
        let way = self.0.entry((flow.channel, to)).or_default();
        way.count = way.count.saturating_add(flow.count);
        if let Some(name) = process_name(&flow.process) {
            way.processes.add(name);
        }
        self.cut();
    }

    /// Counts in what was seen elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (key, theirs) in &other.0 {
            let way = self.0.entry(key.clone()).or_default();
            way.count = way.count.saturating_add(theirs.count);
            way.processes.merge(&theirs.processes);
        }
        self.cut();
    }

    /// Channel, whom to (empty if unknown), and what was seen, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Channel, &str, &Way)> {
        let ways = self.0.iter();
        ways.map(|((channel, to), way)| (*channel, to.as_str(), way))
    }

    fn cut(&mut self) {
        while self.0.len() > MAX_WAYS {
            self.0.pop_last();
        }
    }
}
