//! What the daemon and its maps take, with ten thousand flows alive.

use std::time::Duration;

use anyhow::Result;
use lab::{Cgroup, Process};
use serde_json::json;

use super::{
    figure::Figure,
    rig::{Rig, map_bytes, pause, status_bytes},
};

const FLOWS: u32 = 10_000;
const MIB: f64 = (1 << 20) as f64;
const GOAL_MIB: f64 = 30.0;

/// Every flow is renewed twice a second, for longer than two of the daemon's intervals: they
/// are in the kernel's table, in the daemon's, and have been written.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let output = tempfile::tempdir()?;
    let cgroup = Cgroup::new("memory")?;
    let daemon = rig.daemon(output.path(), &["--cgroup", &cgroup.relative()])?;
    let line = format!("datagrams {FLOWS} 1 20000 50");
    let mut load = Process::spawn(&mut rig.load_in(&cgroup, &line))?;
    pause(Duration::from_millis(23_500))?;
    let resident = status_bytes(daemon.pid(), "VmRSS")? as f64 / MIB;
    let peak = status_bytes(daemon.pid(), "VmHWM")? as f64 / MIB;
    let maps = map_bytes(daemon.pid())? as f64 / MIB;
    load.wait(Duration::from_secs(30))?;
    daemon.stop()?;
    let resident_figure = Figure::reported(
        &format!("resident memory, {FLOWS} flows"),
        format!("{resident:.1} MiB (peak {peak:.1})"),
        json!({ "mib": resident, "peak_mib": peak, "flows": FLOWS }),
    );
    let maps_figure = Figure::reported(
        "  the kernel's maps, beside that",
        format!("{maps:.1} MiB"),
        json!({ "mib": maps }),
    );
    Ok(vec![
        resident_figure.against(format!("{GOAL_MIB} MiB"), resident < GOAL_MIB),
        maps_figure,
    ])
}
