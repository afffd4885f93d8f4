//! Storms and floods after which every count must be there.

use std::{path::Path, time::Duration, time::Instant};

use anyhow::{Result, ensure};
use lab::{Cgroup, Process, wait_until};
use serde_json::json;

use super::{
    figure::Figure,
    log::{Look, Sums},
    rig::{Rig, cpu_seconds, folder},
};

const STORM: u32 = 200_000;
const STORM_DESTINATIONS: usize = 1_000;
const STORM_GOAL_SECONDS: f64 = 0.1;

/// New keys a second, sustained: each is a line in the log.
const ONE_SHOT_RATE: u32 = 30_000;
const ONE_SHOT_TABLE: &str = "65536";

const NEIGHBOURS_CONNECTS: usize = 1_000;

const PATIENCE: Duration = Duration::from_secs(1_200);

/// Many connects to a thousand destinations, on two cores: no count is lost, and the daemon has
/// next to nothing to do.
pub(super) fn storm(rig: &Rig) -> Result<Vec<Figure>> {
    let output = tempfile::tempdir()?;
    let cgroup = Cgroup::new("storm")?;
    let daemon = rig.daemon(output.path(), &["--cgroup", &cgroup.relative()])?;
    let before = cpu_seconds(daemon.pid())?;
    let start = Instant::now();
    let line = format!("connects {STORM} {STORM_DESTINATIONS} 2 0");
    lab::output(&mut rig.load_in(&cgroup, &line))?;
    let took = start.elapsed().as_secs_f64();
    // The interval's work belongs to it: the log and the candidates are written.
    let folder = folder(output.path(), &cgroup);
    wait_until(
        "every connect is in the log",
        Duration::from_secs(25),
        || {
            let sums = Sums::read(&folder, Look::Counts)?;
            Ok((sums.count >= u64::from(STORM)).then_some(()))
        },
    )?;
    let seconds = cpu_seconds(daemon.pid())? - before;
    daemon.stop()?;
    let sums = Sums::read(&folder, Look::Destinations)?;
    let exact = sums.count == u64::from(STORM)
        && sums.destinations.len() == STORM_DESTINATIONS
        && sums.missing + sums.details == 0;
    let name = format!("{STORM} connects to {STORM_DESTINATIONS} destinations, 2 threads");
    let values = json!({
        "count": sums.count, "destinations": sums.destinations.len(),
        "gaps": sums.missing + sums.details, "load_seconds": took,
    });
    let counted = Figure::reported(&name, spell(&sums), values).against("exact, no gap", exact);
    let cpu = Figure::reported(
        "  the daemon's CPU time for them",
        format!("{seconds:.2} s (the load took {took:.1} s)"),
        json!({ "cpu_seconds": seconds }),
    );
    let goal = format!("< {STORM_GOAL_SECONDS} s");
    Ok(vec![
        counted,
        cpu.against(goal, seconds < STORM_GOAL_SECONDS),
    ])
}

/// Far more keys, each used once, than the kernel's table has entries.
pub(super) fn one_shot(rig: &Rig) -> Result<Vec<Figure>> {
    let output = tempfile::tempdir()?;
    let cgroup = Cgroup::new("one-shot")?;
    let arguments = [
        "--cgroup",
        &cgroup.relative(),
        "--table-entries",
        ONE_SHOT_TABLE,
        "--cgroup-quota",
        ONE_SHOT_TABLE,
        // Every segment is kept: they are summed.
        "--rotate-keep",
        "1000",
    ];
    let daemon = rig.daemon(output.path(), &arguments)?;
    let keys = rig.sizes.one_shot_keys;
    let start = Instant::now();
    let line = format!("datagrams {keys} 1 {ONE_SHOT_RATE} 1");
    let mut load = Process::spawn(&mut rig.load_in(&cgroup, &line))?;
    ensure!(load.wait(PATIENCE)?.success(), "the load generator failed");
    let rate = f64::from(keys) / start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(daemon.pid())?;
    daemon.stop()?;
    let sums = Sums::read(&folder(output.path(), &cgroup), Look::Counts)?;
    let exact = sums.count == u64::from(keys) && sums.missing == 0;
    let name = format!("{keys} one-shot keys through {ONE_SHOT_TABLE} entries");
    let values = json!({
        "keys": keys, "count": sums.count, "gaps_destinations": sums.missing,
        "gaps_detail": sums.details, "keys_a_second": rate, "cpu_seconds": cpu,
    });
    let measured = format!("{}, {rate:.0} a second", spell(&sums));
    let figure = Figure::reported(&name, measured, values);
    Ok(vec![figure.against("exact, no destination missing", exact)])
}

/// One cgroup floods the table as fast as it can; its neighbour does its work meanwhile.
pub(super) fn flood(rig: &Rig) -> Result<Vec<Figure>> {
    let output = tempfile::tempdir()?;
    let [flooder, neighbour] = [Cgroup::new("flooder")?, Cgroup::new("neighbour")?];
    let paths = [flooder.relative(), neighbour.relative()];
    let arguments = ["--cgroup", &paths[0], "--cgroup", &paths[1]];
    let daemon = rig.daemon(output.path(), &arguments)?;
    let size = rig.sizes.flood;
    let flood = format!("datagrams {size} 1 0 1");
    let mut flood = Process::spawn(&mut rig.load_in(&flooder, &flood))?;
    // The flood makes some 500,000 a second: the neighbour is done a little earlier.
    let rate = 400_000 / (size / NEIGHBOURS_CONNECTS as u32);
    let work = format!("connects {NEIGHBOURS_CONNECTS} {NEIGHBOURS_CONNECTS} 1 {rate}");
    lab::output(&mut rig.load_in(&neighbour, &work))?;
    ensure!(flood.wait(PATIENCE)?.success(), "the load generator failed");
    daemon.stop()?;
    Ok(vec![
        neighbours(&folder(output.path(), &neighbour), size)?,
        flooders(&folder(output.path(), &flooder), size)?,
    ])
}

fn neighbours(folder: &Path, size: u32) -> Result<Figure> {
    let sums = Sums::read(folder, Look::Destinations)?;
    let complete = sums.count == NEIGHBOURS_CONNECTS as u64
        && sums.destinations.len() == NEIGHBOURS_CONNECTS
        && sums.missing == 0;
    let name = format!("{NEIGHBOURS_CONNECTS} connects beside a flood of {size} destinations");
    let values = json!({
        "count": sums.count, "destinations": sums.destinations.len(),
        "gaps_destinations": sums.missing, "gaps_detail": sums.details,
    });
    let figure = Figure::reported(&name, spell(&sums), values);
    Ok(figure.against("exact, no destination missing", complete))
}

/// What the flooder lost, it must be told.
fn flooders(folder: &Path, size: u32) -> Result<Figure> {
    let sums = Sums::read(folder, Look::Counts)?;
    let measured = format!("{} counted + {} told as lost", sums.count, sums.missed);
    let values = json!({ "count": sums.count, "told_as_lost": sums.missed, "sent": size });
    let figure = Figure::reported("  the flooder's own log", measured, values);
    let accounted = sums.count + sums.missed == u64::from(size);
    Ok(figure.against(format!("sum {size}"), accounted))
}

fn spell(sums: &Sums) -> String {
    let Sums {
        count,
        missing,
        details,
        ..
    } = sums;
    format!("{count} counted, {missing} gaps of destinations, {details} of detail")
}
