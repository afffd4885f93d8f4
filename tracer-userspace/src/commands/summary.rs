//! What `run` tells at the end: where the command went, on stderr.

use std::fmt::Write as _;

use crate::{
    aggregate::{recorder::Recorder, workload::Workload},
    commands::apart,
    output::terminal::escape,
    policy::infer,
};

/// Rows of the table; more are only counted.
const ROWS: usize = 50;

/// Prints the destinations, what is missing, the files, and processes that were left behind.
pub fn print(recorder: &Recorder, left_behind: &[u32]) {
    let mut text = String::new();
    for (name, workload) in recorder.workloads() {
        text.push_str(&describe(name, workload));
    }
    if !left_behind.is_empty() {
        let pids: Vec<_> = left_behind.iter().map(u32::to_string).collect();
        let _written = writeln!(
            text,
            "still running, and no longer recorded: pid {}",
            pids.join(", ")
        );
    }
    eprint!("{text}");
}

fn describe(name: &str, workload: &Workload) -> String {
    let observations = workload.observations();
    let evidence = infer::evidence(observations);
    let mut text = format!(
        "\n{}: {} destination{} in {} run{}\n",
        escape(name),
        evidence.destinations.len(),
        plural(evidence.destinations.len() as u64),
        evidence.runs,
        plural(evidence.runs),
    );
    let rows: Vec<[String; 4]> = evidence
        .destinations
        .iter()
        .take(ROWS)
        .map(|destination| {
            [
                destination.to.to_string(),
                destination.service.to_string(),
                destination.connections.to_string(),
                escape(&destination.processes.join(", ")),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(
            ["DESTINATION", "SERVICE", "COUNT", "PROCESS"],
            &rows,
        ));
    }
    if evidence.destinations.len() > ROWS {
        let _written = writeln!(text, "  and {} more", evidence.destinations.len() - ROWS);
    }
    for line in apart::lines(observations) {
        let _written = writeln!(text, "  {line}");
    }
    for reason in &evidence.incomplete {
        let _written = writeln!(text, "  destinations may be missing: {}", escape(reason));
    }
    match workload.directory() {
        Some(directory) => {
            let _written = writeln!(
                text,
                "log, candidate policy and candidate rules (not reviewed): {}",
                escape(&directory.display().to_string())
            );
        }
        None => text.push_str("nothing was kept: -o DIR keeps the log, a policy and rules\n"),
    }
    text
}

fn table(header: [&str; 4], rows: &[[String; 4]]) -> String {
    let header = header.map(str::to_owned);
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        all()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    all().fold(String::new(), |mut text, [to, service, count, process]| {
        let _written = writeln!(
            text,
            "  {to:<0$}  {service:<1$}  {count:>2$}  {process}",
            widths[0], widths[1], widths[2]
        );
        text
    })
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
