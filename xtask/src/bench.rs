//! `cargo xtask bench`: what the tracer costs, and whether it counts right under load, against
//! the goals.
//!
//! | file | defines |
//! |---|---|
//! | `cost` | what a call costs with the hooks attached: pairs of samples, and a control |
//! | `packets` | what a packet costs in each hook, by the kernel's own count |
//! | `exact` | storms and floods after which every count must be there |
//! | `generator` | logs and captures, side by side with a script and with tshark |
//! | `memory` | what the daemon and its maps take |
//! | `marks` | what saying that a tool begins and ends costs |
//! | `offline` | a large log against a policy |
//! | `names` | how long held answers are waited for |
//! | `rig` | what the measurements share: binaries, sizes, a process's own figures |
//! | `log` | the sums over a log's segments |
//! | `statistics` | medians and their intervals |
//! | `figure` | one row of the table, and the table |

mod cost;
mod exact;
mod figure;
mod generator;
mod log;
mod marks;
mod memory;
mod names;
mod offline;
mod packets;
mod rig;
mod statistics;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use self::{
    figure::{Figure, table},
    rig::{Machine, Rig, Sizes},
};
use crate::shell::{as_root, cargo, check, interrupted, survive_interrupts};

/// Flags of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The sizes of the published figures: fifteen minutes, 3 GB of disk
    #[arg(long)]
    full: bool,

    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Only measurements whose name contains this: cost, packets, storm, memory, one-shot, flood,
    /// lines, captures, diff, names, marks
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,

    /// The build is done: set when this program calls itself through sudo
    #[arg(long, hide = true)]
    built: bool,
}

type Measurement = fn(&Rig) -> Result<Vec<Figure>>;

const MEASUREMENTS: [(&str, Measurement); 12] = [
    ("cost", cost::measure),
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
];

/// The verb, called from the folder `callers`. Fails when a goal is missed.
pub(crate) fn run(arguments: &Arguments, callers: &Path) -> Result<ExitCode> {
    let json = arguments.json.as_ref().map(|path| callers.join(path));
    if !arguments.built {
        check(&mut cargo("build --release --package tracer-userspace"))?;
        check(&mut cargo(
            "test --release --no-run --package tracer-userspace --test names",
        ))?;
        // Without the servers, which bring half of the dependencies.
        check(&mut cargo(
            "build --release --package tests --no-default-features --bin load-generator",
        ))?;
    }
    if !lab::is_root() {
        return again(arguments, json.as_deref());
    }
    survive_interrupts()?;
    let rig = Rig::new(if arguments.full {
        Sizes::FULL
    } else {
        Sizes::REDUCED
    })?;
    let machine = Machine::this()?;
    let figures = measure(&rig, &arguments.only)?;
    println!("{} sizes; {machine}\n\n{}", rig.sizes.name, table(&figures));
    if let Some(path) = json {
        write(&path, &rig, &machine, &figures)?;
    }
    Ok(verdict(&figures))
}

/// Hooks and cgroups take root.
fn again(arguments: &Arguments, json: Option<&Path>) -> Result<ExitCode> {
    let mut again = as_root(env::current_exe()?);
    again.args(["bench", "--built", "--only", &arguments.only]);
    if arguments.full {
        again.arg("--full");
    }
    if let Some(path) = json {
        again.arg("--json").arg(path);
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
        "sizes": rig.sizes.name,
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
