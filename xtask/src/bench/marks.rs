//! What it costs a program to say that a tool begins and ends.

use anyhow::{Context as _, Result};
use lab::Cgroup;
use serde_json::json;

use super::{figure::Figure, rig::Rig, statistics::median};

const ROUNDS: usize = 5;
const GOAL_US: f64 = 50.0;

/// A begin and an end with their replies, by a program in a recorded cgroup.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let (cgroup, socket) = (Cgroup::new("marks")?, folder.path().join("mark.sock"));
    let (name, place) = (cgroup.relative(), socket.display().to_string());
    let output = folder.path().join("out");
    let _daemon = rig.daemon(&output, &["--cgroup", &name, "--mark-socket", &place])?;
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let said = lab::output(&mut rig.load_in(&cgroup, &format!("marks {place}")))?;
        let nanoseconds = said.trim().strip_prefix("marks ").context("no figure")?;
        all.push(nanoseconds.parse::<f64>()? / 1000.0);
    }
    let middle = median(all.iter().copied());
    let figure = Figure::reported(
        "tool call begins and ends, both answered",
        format!("{middle:.1} µs"),
        json!({ "us": middle, "rounds": all }),
    );
    let met = middle < GOAL_US;
    Ok(vec![figure.against(format!("< {GOAL_US} µs"), met)])
}
