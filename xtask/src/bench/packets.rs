//! What a packet of an established connection costs in each hook, by the kernel's own count.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use lab::{Cgroup, Deed, ForeignProgram, Hook, run};
use serde_json::json;

use super::{figure::Figure, rig::Rig};

/// Bytes that go and come back, each in a packet.
const ROUNDS: u32 = 300_000;
/// Nanoseconds above an empty program.
const GOAL: f64 = 50.0;
const SWITCH: &str = "kernel.bpf_stats_enabled";
/// `BPF_PROG_TYPE_CGROUP_SKB`.
const CGROUP_SKB: &str = "8";

/// The kernel counts, until this is dropped.
struct Counting;

impl Counting {
    fn start() -> Result<Self> {
        run("sysctl", &["-qw", &format!("{SWITCH}=1")])?;
        Ok(Self)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Err(error) = run("sysctl", &["-qw", &format!("{SWITCH}=0")]) {
            eprintln!("bench: {error:#}");
        }
    }
}

/// How long a program has run, and how often.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    nanoseconds: f64,
    count: f64,
}

/// A figure for each hook that sees packets.
pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let output = tempfile::tempdir()?;
    let cgroup = Cgroup::new("packets")?;
    let daemon = rig.daemon(output.path(), &[])?;
    let empty = ForeignProgram::attach(&cgroup.path(), Hook::Egress, Deed::Nothing)?;
    let folder = format!("/proc/{}/fdinfo", daemon.pid());
    let counting = Counting::start()?;
    let before = programs(&folder)?;
    lab::output(&mut rig.load_in(&cgroup, &format!("packets {ROUNDS}")))?;
    let after = programs(&folder)?;
    drop(counting);
    let myself = format!("/proc/self/fdinfo/{}", empty.descriptor());
    let (_, idle) = program(&fs::read_to_string(myself)?).context("no counts of a program")?;
    daemon.stop()?;
    let idle = idle.nanoseconds / idle.count;
    let mut figures = Vec::new();
    for (id, total) in after {
        let past = before.get(&id).copied().unwrap_or_default();
        let count = total.count - past.count;
        if count >= f64::from(ROUNDS) {
            let each = (total.nanoseconds - past.nanoseconds) / count;
            figures.push(figure(&id, each, idle));
        }
    }
    ensure!(!figures.is_empty(), "no hook saw the packets");
    Ok(figures)
}

fn figure(id: &str, each: f64, idle: f64) -> Figure {
    let above = each - idle;
    let measured = format!("{above:.0} ns above an empty program ({each:.0}, {idle:.0})");
    let values = json!({ "ns": each, "empty_ns": idle, "goal": GOAL });
    let name = format!("packet of an established connection, program {id}");
    Figure::reported(&name, measured, values).against(format!("{GOAL} ns"), above <= GOAL)
}

/// The programs that see packets, by id.
fn programs(folder: &str) -> Result<BTreeMap<String, Runs>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        found.extend(program(&text));
    }
    Ok(found)
}

fn program(text: &str) -> Option<(String, Runs)> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map(str::trim)
    };
    if field("prog_type:")? != CGROUP_SKB {
        return None;
    }
    let runs = Runs {
        nanoseconds: field("run_time_ns:")?.parse().ok()?,
        count: field("run_cnt:")?.parse().ok()?,
    };
    Some((field("prog_id:")?.to_owned(), runs))
}
