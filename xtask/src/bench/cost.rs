//! What a call costs with the hooks attached: over loopback, where both ends pay, and over a pair
//! of interfaces between two networks, where only the client's end does.

use anyhow::{Result, ensure};
use lab::Cgroup;
use serde_json::json;

use super::{
    across::Across,
    figure::Figure,
    pairs::{Kind, Round, Sample, ratio, rounds, sample, typical},
    rig::{Rig, folder, last_core},
    statistics::{Dice, Estimate},
};

/// A kind of call.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// As the load generator calls it.
    key: &'static str,
    /// In the table.
    name: &'static str,
    goal: f64,
}

const fn call(key: &'static str, name: &'static str, goal: f64) -> Call {
    Call { key, name, goal }
}

const CALLS: [Call; 5] = [
    call("tcp", "TCP connect+accept+close", 1.12),
    call("sendto", "unconnected UDP sendto", 1.28),
    call("send", "connected UDP send", 1.09),
    call("tls", "TLS connection", 1.03),
    call("process", "process that connects once", 1.0),
];

const CALLS_ACROSS: [Call; 3] = [
    call("tcp", "TCP connect+accept+close, client only", 1.12),
    call("sendto", "unconnected UDP sendto, client only", 1.28),
    call("send", "connected UDP send, client only", 1.09),
];

/// A ratio for each kind of call, and the controls.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let mut dice = Dice::new();
    let untraced = |salt| measured(rig, salt);
    let traced = |salt| {
        let output = tempfile::tempdir()?;
        let daemon = rig.daemon(output.path(), &[])?;
        let sample = measured(rig, salt)?;
        // Its links close with it: once it has ended, nothing is attached.
        daemon.stop()?;
        let log = lab::Log::read(&output.path().join("host/flows.jsonl"))?;
        let seen = log.flows().any(|flow| flow["comm"] == "load-generator");
        ensure!(seen, "the daemon did not see the load");
        Ok(sample)
    };
    let rounds = rounds(rig.sizes.pairs, &mut dice, &untraced, &traced)?;
    Ok(figures(&CALLS, &rounds, &mut dice))
}

/// The same across a pair of interfaces: the client's cgroup has hooks, the server's has none.
pub(super) fn across(rig: &Rig) -> Result<Vec<Figure>> {
    let across = Across::new()?;
    let mut dice = Dice::new();
    let untraced = |salt| across.measured(rig, &Cgroup::new("client")?, salt);
    let traced = |salt| {
        let output = tempfile::tempdir()?;
        let client = Cgroup::new("client")?;
        let daemon = rig.daemon(output.path(), &["--cgroup", &client.relative()])?;
        let sample = across.measured(rig, &client, salt)?;
        daemon.stop()?;
        let log = lab::Log::read(&folder(output.path(), &client).join("flows.jsonl"))?;
        ensure!(
            log.flows().next().is_some(),
            "the daemon did not see the load"
        );
        Ok(sample)
    };
    let rounds = rounds(rig.sizes.pairs, &mut dice, &untraced, &traced)?;
    Ok(figures(&CALLS_ACROSS, &rounds, &mut dice))
}

fn figures(calls: &[Call], rounds: &[Round], dice: &mut Dice) -> Vec<Figure> {
    let mut figures = Vec::new();
    for draw in [figure, control] {
        figures.extend(calls.iter().map(|call| draw(call, rounds, dice)));
    }
    figures
}

fn measured(rig: &Rig, salt: usize) -> Result<Sample> {
    let core = last_core()?;
    let mut load = rig.urgent_load(&format!("cost {core} {salt}"));
    sample(&lab::output(&mut load)?)
}

fn figure(call: &Call, rounds: &[Round], dice: &mut Dice) -> Figure {
    let Call { key, name, goal } = *call;
    let Estimate { median, low, high } = ratio(key, Kind::Traced, rounds, dice);
    let [without, with] = [Kind::Untraced, Kind::Traced].map(|kind| typical(key, kind, rounds));
    let measured = format!("× {median:.3} [{low:.3}, {high:.3}], {without:.2} → {with:.2} µs");
    let values = json!({
        "ratio": median, "low": low, "high": high, "goal": goal,
        "untraced_us": without, "traced_us": with, "pairs": rounds.len(),
    });
    let name = format!("{name}, {} pairs", rounds.len());
    // Within the noise is not missed.
    Figure::reported(&name, measured, values).against(format!("× {goal}"), low <= goal)
}

fn control(call: &Call, rounds: &[Round], dice: &mut Dice) -> Figure {
    let Estimate { median, low, high } = ratio(call.key, Kind::Control, rounds, dice);
    let measured = format!("× {median:.3} [{low:.3}, {high:.3}]");
    let values = json!({ "ratio": median, "low": low, "high": high });
    Figure::reported(&format!("  control of {}", call.name), measured, values)
}
