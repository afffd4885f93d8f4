//! Reports that people read.

use super::{Report, plain};
use crate::analysis::drift::{Drift, Kind};

pub(super) fn text(report: &Report<'_>) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let of_kind: Vec<&Drift> = report
            .drift
            .iter()
            .filter(|each| each.kind == kind)
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        text += &format!("{}: {} {}\n", kind.word(), of_kind.len(), kind.meaning());
        for each in of_kind {
            let line = format!("  {} {}  {}", each.to, each.service, each.detail);
            text += &plain(&line);
            text.push('\n');
        }
    }
    if text.is_empty() {
        text = "no drift\n".to_owned();
    }
    text
}

pub(super) fn markdown(report: &Report<'_>) -> String {
    let mut text = format!("### Egress of {}\n\n", cell(report.workload));
    if report.drift.is_empty() {
        return text + "No drift: everything observed is approved.\n";
    }
    text += "| drift | destination | service | |\n|---|---|---|---|\n";
    for each in report.drift {
        let (to, service, detail) = (cell(&each.to), cell(&each.service), cell(&each.detail));
        text += &format!(
            "| **{}** | {to} | {service} | {detail} |\n",
            each.kind.word()
        );
    }
    text
}

/// `text` in a table's cell: as code, in which neither Markdown nor HTML means anything.
fn cell(text: &str) -> String {
    // A bar ends the cell, also after two backslashes: it is spelled out as well.
    let inner = plain(text).replace('`', "'").replace('|', "\\u{7c}");
    format!("`{inner}`")
}
