//! What people would use instead, against the same load: what it costs, what it misses of a storm,
//! what it takes itself, and of how many short-lived processes it knows who they were.
//!
//! | file | defines |
//! |---|---|
//! | `tool` | each of them: how it is started, and what a line of its output tells |
//! | `watched` | a load that one of them, or the daemon, watches |

mod tool;
mod watched;

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use self::{
    tool::{TOOLS, Tool},
    watched::{Watched, by_daemon, by_tool, cost_under},
};
use super::{
    figure::Figure,
    pairs::{Kind, Round, Sample, ratio, rounds, sample, typical},
    rig::{Rig, last_core, pause},
    statistics::{Dice, Estimate},
};
use crate::shell::find;

/// Calls that are compared, as the load generator calls them, and in the table.
const CALLS: [(&str, &str); 2] = [
    ("tcp", "TCP connect+accept+close"),
    ("sendto", "unconnected UDP sendto"),
];

const OURS: &str = "egress-tracer";
const DESTINATIONS: u32 = 1_000;
/// What a short-lived process connects to: nobody is there.
const NOBODY: &str = "127.0.0.1:1";
/// On the command line of each of them, before its number.
pub(super) const TAG: &str = "short-lived";

/// Rows for the daemon and for every tool; a word why, where one is not here or does not run.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let ours = |line: &str| by_daemon(rig, line);
    for (figure, all) in [storm(OURS, rig, &ours)?, processes(OURS, rig, &ours)?] {
        figures.push(figure.against("all of them", all));
    }
    for tool in &TOOLS {
        if find(tool.program).is_none() {
            let why = format!("not installed (Debian's package {})", tool.package);
            figures.push(Figure::reported(
                tool.name,
                why,
                json!({ "installed": false }),
            ));
            continue;
        }
        eprintln!("bench: {}", tool.name);
        figures.extend(with(tool, rig).unwrap_or_else(|error| {
            let why = format!("{error:#}");
            let told = why.lines().next().unwrap_or_default().to_owned();
            vec![Figure::reported(tool.name, told, json!({ "error": why }))]
        }));
        pause(Duration::ZERO)?;
    }
    Ok(figures)
}

fn with(tool: &Tool, rig: &Rig) -> Result<Vec<Figure>> {
    let theirs = |line: &str| by_tool(rig, tool, line);
    // First, since this says whether it runs here at all.
    let (found, _) = processes(tool.name, rig, &theirs)?;
    let mut figures = costs(tool, rig)?;
    let (told, _) = storm(tool.name, rig, &theirs)?;
    figures.extend([told, found]);
    Ok(figures)
}

fn costs(tool: &Tool, rig: &Rig) -> Result<Vec<Figure>> {
    let mut dice = Dice::new();
    let calls = CALLS.map(|(key, _)| key).join(" ");
    let untraced = |salt| -> Result<Sample> {
        let core = last_core()?;
        let mut load = rig.urgent_load(&format!("cost {core} {salt} {calls}"));
        sample(&lab::output(&mut load)?)
    };
    let traced = |salt| cost_under(rig, tool, salt, &calls);
    let rounds = rounds(rig.sizes.other_pairs, &mut dice, &untraced, &traced)?;
    Ok(CALLS
        .iter()
        .map(|call| cost(tool, call, &rounds, &mut dice))
        .collect())
}

fn cost(tool: &Tool, (key, name): &(&str, &str), rounds: &[Round], dice: &mut Dice) -> Figure {
    let Estimate { median, low, high } = ratio(key, Kind::Traced, rounds, dice);
    let [without, with] = [Kind::Untraced, Kind::Traced].map(|kind| typical(key, kind, rounds));
    let measured = format!("× {median:.2} [{low:.2}, {high:.2}], {without:.2} → {with:.2} µs");
    let values = json!({
        "tool": tool.name, "ratio": median, "low": low, "high": high,
        "untraced_us": without, "traced_us": with, "pairs": rounds.len(),
    });
    let name = format!("{}: {name}, {} pairs", tool.name, rounds.len());
    Figure::reported(&name, measured, values)
}

type Watch<'a> = &'a dyn Fn(&str) -> Result<Watched>;

/// As many connections as two threads can make; whether all were told.
fn storm(name: &str, rig: &Rig, watch: Watch<'_>) -> Result<(Figure, bool)> {
    let made = rig.sizes.other_connects;
    let seen = watch(&format!("connects {made} {DESTINATIONS} 2 0"))?;
    let measured = format!(
        "{} told, {:.2} s of CPU, {:.1} MiB, the load took {:.1} s",
        seen.connects, seen.cpu_seconds, seen.peak_mib, seen.load_seconds
    );
    let values = json!({
        "tool": name, "made": made, "told": seen.connects, "cpu_seconds": seen.cpu_seconds,
        "peak_mib": seen.peak_mib, "load_seconds": seen.load_seconds,
    });
    let row = format!("{name}: {made} connects to {DESTINATIONS} destinations");
    let all = seen.connects == u64::from(made);
    Ok((Figure::reported(&row, measured, values), all))
}

/// Processes that connect once and end at once; whether each command line was told.
fn processes(name: &str, rig: &Rig, watch: Watch<'_>) -> Result<(Figure, bool)> {
    let made = rig.sizes.other_processes;
    let seen = watch(&format!("storm {made} {NOBODY} {TAG}"))?;
    let measured = format!(
        "{} by pid, {} by command line",
        seen.pids.len(),
        seen.commands.len()
    );
    let values = json!({
        "tool": name, "made": made, "by_pid": seen.pids.len(),
        "by_command_line": seen.commands.len(),
    });
    let row = format!("{name}: {made} short-lived processes that connect");
    let all = seen.commands.len() == made as usize;
    Ok((Figure::reported(&row, measured, values), all))
}
