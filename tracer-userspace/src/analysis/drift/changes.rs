//! What differs from one policy to another.

use std::collections::BTreeSet;

use crate::policy::model::{Entry, Policy};

/// What has changed from one policy to another, by destination, tools and status: a sentence each.
#[must_use]
pub fn changes(old: &Policy, new: &Policy) -> Vec<String> {
    let (before, after) = (lines(old), lines(new));
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    let come = after.difference(&before).map(|line| format!("+ {line}"));
    let mut all: Vec<String> = gone.chain(come).collect();
    all.sort_by(|one, other| one[2..].cmp(&other[2..]));
    all
}

/// Each entry in one line, whatever its layout and place.
fn lines(policy: &Policy) -> BTreeSet<String> {
    let line = |entry: &Entry| {
        let ports: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
        let mut line = format!("{} {} {}", entry.to, ports.join(" "), entry.status.word());
        if let Some(tools) = &entry.tools {
            line += &format!(", tools {}", tools.join(" "));
        }
        if let Some(processes) = &entry.processes {
            line += &format!(", processes {}", processes.join(" "));
        }
        if !entry.translated.is_empty() {
            let places: Vec<String> = entry.translated.iter().map(ToString::to_string).collect();
            line += &format!(", translated {}", places.join(", "));
        }
        if let Some(end) = entry.expires {
            line += &format!(", until {end}");
        }
        if let Some(owner) = &entry.owner {
            line += &format!(", {owner}");
        }
        if let Some(reason) = &entry.reason {
            line += &format!(": {reason}");
        }
        line
    };
    policy.entries.iter().map(line).collect()
}
