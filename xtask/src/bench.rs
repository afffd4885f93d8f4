//! `cargo xtask bench`: what the tracer costs, and whether it counts right under load, against
//! the goals.
//!
//! | file | defines |
//! |---|---|
//! | `cost` | what a call costs with the hooks attached, over loopback and across interfaces |
//! | `across` | the networks for the latter |
//! | `pairs` | pairs of samples, and a control |
//! | `others` | what people would use instead, against the same load |
//! | `packets` | what a packet costs in each hook, by the kernel's own count |
//! | `exact` | storms and floods after which every count must be there |
//! | `generator` | logs and captures, side by side with a script and with tshark |
//! | `memory` | what the daemon and its maps take |
//! | `marks` | what saying that a tool begins and ends costs |
//! | `offline` | a large log against a policy |
//! | `names` | how long held answers are waited for |
//! | `rig` | what the measurements share: binaries, sizes, a process's own figures |
//! | `log` | the sums over a log's segments |
//! | `arguments` | what can be asked for |
//! | `statistics` | medians and their intervals |
//! | `figure` | one row of the table, and the table |
//! | `gate` | whether calls cost more than they did |
//! | `chart` | the ratios as a picture |

mod across;
mod arguments;
mod chart;
mod cost;
mod exact;
mod figure;
mod gate;
mod generator;
mod log;
mod marks;
mod memory;
mod names;
mod offline;
mod others;
mod packets;
mod pairs;
mod rig;
mod statistics;

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

pub(crate) use self::arguments::Arguments;
use self::{
    arguments::Files,
    figure::{Figure, table},
    gate::Grown,
    rig::{Machine, Rig},
};
use crate::shell::{as_root, cargo, check, interrupted, survive_interrupts};

type Measurement = fn(&Rig) -> Result<Vec<Figure>>;

const MEASUREMENTS: [(&str, Measurement); 14] = [
    ("cost", cost::measure),
    ("cost-across", cost::across),
    ("packets", packets::measure),
    ("storm", exact::storm),
    ("memory", memory::measure),
    ("one-shot", exact::one_shot),
    ("flood", exact::flood),
    ("lines", generator::lines),
    ("lines-memory", generator::lines_memory),
    ("captures", generator::captures),
    ("diff", offline::measure),
    ("names", names::measure),
    ("marks", marks::measure),
    ("others", others::measure),
];

/// The verb, called from the folder `callers`. Fails when a goal is missed, or when a call costs
/// more than it did, where that is asked for.
pub(crate) fn run(arguments: &Arguments, callers: &Path) -> Result<ExitCode> {
    let files = Files::of(arguments, callers);
    if let Some(from) = &files.from {
        files.draw(&gate::read(from)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let earlier = files.check.as_deref().map(gate::read).transpose()?;
    if !arguments.built {
        build()?;
    }
    if !lab::is_root() {
        return again(arguments, &files);
    }
    survive_interrupts()?;
    let rig = Rig::new(arguments.sizes())?;
    eprintln!("bench: {}", rig.sizes);
    let machine = Machine::this()?;
    let figures = measure(&rig, arguments.only())?;
    println!("{}; {machine}\n\n{}", rig.sizes, table(&figures));
    if let Some(path) = &files.json {
        write(path, &rig, &machine, &figures)?;
    }
    let values: Vec<_> = figures.iter().map(Figure::to_json).collect();
    files.draw(&values)?;
    match earlier {
        Some(earlier) => Ok(compare(&gate::grown(&earlier, &figures)?)),
        None => Ok(verdict(&figures)),
    }
}

fn build() -> Result<()> {
    check(&mut cargo("build --release --package tracer-userspace"))?;
    check(&mut cargo(
        "test --release --no-run --package tracer-userspace --test names",
    ))?;
    // Without the servers, which bring half of the dependencies.
    check(&mut cargo(
        "build --release --package tests --no-default-features --bin load-generator",
    ))
}

/// Hooks and cgroups take root.
fn again(arguments: &Arguments, files: &Files) -> Result<ExitCode> {
    let mut again = as_root(env::current_exe()?);
    again.args(["bench", "--built", "--only", arguments.only()]);
    if arguments.full {
        again.arg("--full");
    }
    if let Some(pairs) = arguments.pairs {
        again.arg("--pairs").arg(pairs.to_string());
    }
    for (flag, path) in [
        ("--json", &files.json),
        ("--chart", &files.chart),
        ("--check", &files.check),
    ] {
        if let Some(path) = path {
            again.arg(flag).arg(path);
        }
    }
    let status = again.status().context("cannot start sudo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A measurement that cannot be made is a goal missed; the others go on.
fn measure(rig: &Rig, only: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, measurement) in MEASUREMENTS {
        if !name.contains(only) {
            continue;
        }
        eprintln!("bench: {name}");
        let measured = measurement(rig);
        if interrupted() {
            bail!("interrupted");
        }
        figures.extend(measured.unwrap_or_else(|error| vec![Figure::failed(name, &error)]));
    }
    if figures.is_empty() {
        bail!("no measurement is called {only:?}");
    }
    Ok(figures)
}

fn write(path: &Path, rig: &Rig, machine: &Machine, figures: &[Figure]) -> Result<()> {
    let figures: Vec<_> = figures.iter().map(Figure::to_json).collect();
    let all = json!({
        "sizes": rig.sizes.to_string(),
        "machine": machine.to_json(),
        "figures": figures,
    });
    let text = serde_json::to_string_pretty(&all)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn verdict(figures: &[Figure]) -> ExitCode {
    let missed: Vec<_> = figures.iter().filter(|figure| figure.is_missed()).collect();
    for figure in &missed {
        eprintln!("bench: goal missed: {}", figure.name);
    }
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn compare(grown: &[Grown]) -> ExitCode {
    for Grown { call, was, low } in grown {
        eprintln!("bench: {call} was × {was:.3} and is × {low:.3} at least");
    }
    if grown.is_empty() {
        eprintln!("bench: no call costs more than it did");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
