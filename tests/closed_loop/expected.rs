//! Flows as the test knows them: totals by destination, service and channel.

use std::collections::{BTreeMap, BTreeSet};

use lab::Log;

/// One destination, and how often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) protocol: String,
    pub(crate) ip: String,
    pub(crate) port: u64,
    pub(crate) channel: String,
    pub(crate) via: Option<String>,
    pub(crate) count: u64,
}

impl Flow {
    pub(crate) fn new(protocol: &str, ip: &str, port: u64, channel: &str, count: u64) -> Self {
        Self {
            protocol: protocol.to_owned(),
            ip: ip.to_owned(),
            port,
            channel: channel.to_owned(),
            via: None,
            count,
        }
    }
}

/// Everything in a log, summed over records and processes.
pub(crate) fn flows_of(log: &Log) -> BTreeSet<Flow> {
    let mut sums: BTreeMap<Flow, u64> = BTreeMap::new();
    for record in log.flows() {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let flow = Flow {
            protocol: text("protocol"),
            ip: text("dest_ip"),
            port: record["dest_port"].as_u64().unwrap(),
            channel: text("channel"),
            via: record["via"].as_str().map(str::to_owned),
            count: 0,
        };
        *sums.entry(flow).or_default() += record["count"].as_u64().unwrap();
    }
    sums.into_iter()
        .map(|(flow, count)| Flow { count, ..flow })
        .collect()
}
