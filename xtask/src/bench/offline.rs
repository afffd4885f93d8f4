//! How fast a large log is compared with a policy of a thousand entries, beside how fast candidates
//! are made of it.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    figure::Figure,
    rig::{Rig, pause},
};

const ENTRIES: u32 = 1000;
/// What differs between two runs of one and the same, and a little more.
const ROOM: f64 = 1.15;
const MB: f64 = 1e6;

pub(super) fn measure(rig: &Rig) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let bytes = write_log(&folder.path().join("log.jsonl"), rig.sizes.log_bytes)?;
    run(
        rig,
        folder.path(),
        &["generate", "log.jsonl", "-o", "policy.toml"],
    )?;
    // Each twice, in turn: what the machine does meanwhile concerns both.
    let (mut making, mut comparing) = (f64::MAX, f64::MAX);
    for _ in 0..2 {
        pause(std::time::Duration::ZERO)?;
        making = making.min(run(rig, folder.path(), &["generate", "log.jsonl"])?);
        let words = ["diff", "policy.toml", "log.jsonl", "--fail-on", "never"];
        comparing = comparing.min(run(rig, folder.path(), &words)?);
    }
    let speed = |seconds: f64| bytes as f64 / MB / seconds;
    let made = Figure::reported(
        &format!("generate, a log of {:.0} MB", bytes as f64 / MB),
        format!("{:.0} MB/s", speed(making)),
        json!({ "bytes": bytes, "seconds": making }),
    );
    let compared = Figure::reported(
        &format!("  diff against {ENTRIES} entries"),
        format!("{:.0} MB/s", speed(comparing)),
        json!({ "bytes": bytes, "seconds": comparing, "entries": ENTRIES }),
    );
    let goal = format!("that of generate, or {ROOM} times its time");
    Ok(vec![
        made,
        compared.against(goal, comparing <= making * ROOM),
    ])
}

/// Seconds that the program took.
fn run(rig: &Rig, folder: &Path, words: &[&str]) -> Result<f64> {
    let mut command = rig.tracer();
    command.args(words).current_dir(folder);
    let began = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("{words:?}: {status}");
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Records of [`ENTRIES`] destinations in turn, as the daemon writes them; the bytes.
fn write_log(path: &Path, bytes: u64) -> Result<u64> {
    let mut log = BufWriter::new(File::create(path)?);
    let head = "\"schema\":\"egress-tracer/1\",\"ts\":\"2026-11-22T10:00:00.000000000Z\",\
        \"host\":\"bench\",\"run\":\"r\",\"workload\":\"w\"";
    writeln!(
        log,
        "{{\"type\":\"start\",{head},\"version\":\"0\",\"pid\":1,\"hooks\":[]}}"
    )?;
    let (mut written, mut number) = (0, 0_u32);
    while written < bytes {
        let host = number % ENTRIES;
        let line = format!(
            "{{\"type\":\"flow\",{head},\"protocol\":\"tcp\",\"dest_ip\":\"198.18.{}.{}\",\
             \"dest_port\":443,\"channel\":\"connect\",\"direction\":\"egress\",\
             \"outcomes\":{{\"unknown\":1}},\"count\":1,\
             \"first_seen\":\"2026-11-22T10:00:00.000000000Z\",\
             \"last_seen\":\"2026-11-22T10:00:00.000000000Z\",\"pid\":{number},\"tid\":{number},\
             \"ppid\":1,\"uid\":1000,\"comm\":\"python3\",\"exe\":\"/usr/bin/python3.12\",\
             \"cmdline\":[\"python3\",\"agent.py\"],\"cgroup_id\":7,\"cgroup_path\":\"/docker/w\"}}",
            host / 250,
            host % 250
        );
        writeln!(log, "{line}")?;
        written += line.len() as u64 + 1;
        number += 1;
    }
    writeln!(
        log,
        "{{\"type\":\"stop\",{head},\"reason\":\"end\",\"records\":{number},\"count\":{number}}}"
    )?;
    log.flush()?;
    Ok(written)
}
