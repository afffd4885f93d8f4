//! The table of destinations that `cargo xtask run` ends with.

use std::collections::{BTreeMap, BTreeSet};

use lab::Log;

/// What was seen of one destination.
#[derive(Default)]
struct Row {
    count: u64,
    names: BTreeSet<String>,
    outcomes: BTreeMap<String, u64>,
}

/// One line for each destination and port.
pub(crate) fn destinations(log: &Log) -> String {
    let mut rows: BTreeMap<[String; 3], Row> = BTreeMap::new();
    for flow in log.flows() {
        let text = |key: &str| flow[key].as_str().unwrap_or("-").to_owned();
        let port = flow["dest_port"]
            .as_u64()
            .map_or("-".to_owned(), |port| port.to_string());
        let protocol = match text("channel").as_str() {
            probe @ "udp-probe" => probe.to_owned(),
            _ => text("protocol"),
        };
        let row = rows.entry([text("dest_ip"), port, protocol]).or_default();
        row.count += flow["count"].as_u64().unwrap_or_default();
        for name in flow["names"].as_array().into_iter().flatten() {
            row.names.extend(name["name"].as_str().map(str::to_owned));
        }
        for (outcome, count) in flow["outcomes"].as_object().into_iter().flatten() {
            *row.outcomes.entry(outcome.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    let mut cells = vec![
        [
            "DESTINATION",
            "PORT",
            "PROTOCOL",
            "COUNT",
            "OUTCOMES",
            "NAMES",
        ]
        .map(str::to_owned),
    ];
    cells.extend(rows.into_iter().map(|([ip, port, protocol], row)| {
        [
            ip,
            port,
            protocol,
            row.count.to_string(),
            row.spell_outcomes(),
            row.spell_names(),
        ]
    }));
    align(&cells)
}

impl Row {
    fn spell_outcomes(&self) -> String {
        let words: Vec<_> = self
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        words.join(", ")
    }

    fn spell_names(&self) -> String {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        names.join(", ")
    }
}

/// Columns as wide as their widest cell.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|i| {
            rows.iter()
                .map(|row| row[i].len())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_for_a_destination() {
        let flow = json!({
            "type": "flow", "dest_ip": "198.51.100.20", "dest_port": 443, "protocol": "tcp",
            "channel": "connect", "count": 2, "outcomes": {"established": 2},
            "names": [{"name": "api.model.example"}],
        });
        let table = destinations(&Log(vec![flow.clone(), flow]));
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1],
            "198.51.100.20  443   tcp       4      established 4  api.model.example"
        );
    }
}
