//! What it costs a program to say that a tool begins and ends.

use std::{process::Command, thread};

use anyhow::{Result, bail};
use lab::Cgroup;
use serde_json::json;

use super::{figure::Figure, rig::Rig, statistics::median};

const ROUNDS: usize = 5;
const GOAL_US: f64 = 50.0;

/// A begin and an end with their replies, by a program in a recorded cgroup: wherever each of
/// them happens to be, as users have it, and on one processor. Where an idle processor has to be woken
/// four times, that can cost more than everything else on a virtual machine: beside each stands what
/// the same exchange costs with a thread that only answers.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let last = thread::available_parallelism()?.get() - 1;
    let together = Exchange::measure(rig, Some(last))?;
    let apart = Exchange::measure(rig, None)?;
    let met = apart.marks < GOAL_US;
    Ok(vec![
        apart
            .figure("tool call begins and ends, both answered")
            .against(format!("< {GOAL_US} µs"), met),
        together.figure("  on one processor"),
    ])
}

/// Microseconds of two messages and their replies, medians of the rounds.
struct Exchange {
    marks: f64,
    echo: f64,
}

impl Exchange {
    /// With all threads of both on one processor, or wherever they are.
    fn measure(rig: &Rig, processor: Option<usize>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (cgroup, socket) = (Cgroup::new("marks")?, folder.path().join("mark.sock"));
        let (name, place) = (cgroup.relative(), socket.display().to_string());
        let output = folder.path().join("out");
        let options = ["--cgroup", &name, "--mark-socket", &place];
        let daemon = rig.daemon(&output, &options)?;
        if let Some(processor) = processor {
            keep_on(processor, daemon.pid())?;
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let line = format!("marks {place}");
            let mut load = match processor {
                Some(processor) => on(processor, &rig.load_in(&cgroup, &line)),
                None => rig.load_in(&cgroup, &line),
            };
            let said = lab::output(&mut load)?;
            let words: Vec<&str> = said.split_whitespace().collect();
            let ["marks", marks, "echo", echo] = words[..] else {
                bail!("the load generator says {said:?}");
            };
            rounds.push((
                marks.parse::<f64>()? / 1000.0,
                echo.parse::<f64>()? / 1000.0,
            ));
        }
        Ok(Self {
            marks: median(rounds.iter().map(|(marks, _)| *marks)),
            echo: median(rounds.iter().map(|(_, echo)| *echo)),
        })
    }

    fn figure(&self, what: &str) -> Figure {
        let Self { marks, echo } = self;
        Figure::reported(
            what,
            format!("{marks:.1} µs, of a thread that only answers {echo:.1} µs"),
            json!({ "us": marks, "echo_us": echo }),
        )
    }
}

/// All threads of a process, and those that they start.
fn keep_on(processor: usize, pid: u32) -> Result<()> {
    let (processor, pid) = (processor.to_string(), pid.to_string());
    let words = ["--all-tasks", "--cpu-list", "--pid", &processor, &pid];
    lab::run("taskset", &words).map(drop)
}

/// The same command on that processor.
fn on(processor: usize, command: &Command) -> Command {
    let mut bound = Command::new("taskset");
    bound.args(["--cpu-list", &processor.to_string()]);
    bound.arg(command.get_program()).args(command.get_args());
    bound
}
