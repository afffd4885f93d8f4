//! What a signature is about: the decisions, and nothing that changes without anybody deciding.
//!
//! Candidates, findings, comments, order and layout are left out, so that a policy that is
//! regenerated keeps its signature until somebody decides something.

use serde_json::{Value, json};

use super::model::{Entry, Policy, Status};

/// A line of JSON for the workload, then one for each decision, sorted. `policy` is with its bases:
/// what they say is signed as well.
#[must_use]
pub fn text(policy: &Policy) -> String {
    let head = json!({"schema": "egress-tracer/decisions/1", "workload": policy.workload});
    let decided = policy.entries.iter().filter(|entry| is_decided(entry));
    let mut lines: Vec<String> = decided.map(|entry| line(entry).to_string()).collect();
    lines.sort();
    lines.dedup();
    lines.insert(0, head.to_string());
    lines.join("\n") + "\n"
}

fn is_decided(entry: &Entry) -> bool {
    match entry.status {
        Status::Approved | Status::Denied => true,
        Status::Candidate => false,
    }
}

fn line(entry: &Entry) -> Value {
    let texts = |all: Vec<String>| json!(all);
    let mut said = json!({
        "to": entry.to.to_string(),
        "ports": texts(entry.ports.iter().map(ToString::to_string).collect()),
        "translated": texts(entry.translated.iter().map(ToString::to_string).collect()),
        "tools": entry.tools,
        "status": entry.status.word(),
        "reason": entry.reason,
        "owner": entry.owner,
        "approved": entry.approved,
        "expires": entry.expires,
        "reference": entry.reference,
        "acknowledged": entry.acknowledged,
    });
    // Only published ranges have them: other signatures stay as they are.
    if let Some(most) = entry.at_most {
        said["list"] = json!(entry.list);
        said["at_most"] = json!(most);
    }
    if let Some(processes) = &entry.processes {
        said["processes"] = json!(processes);
    }
    said
}
