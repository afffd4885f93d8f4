//! The generator against what people would use without it, on the same files: lines against a plain
//! Python script, captures against tshark; and what it takes in memory.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{
    figure::Figure,
    rig::{Rig, children_cpu_seconds, status_bytes},
    statistics::{Dice, median},
};

/// What takes the other side of the comparison.
const SCRIPT: &str = "tests/samples/plain-parser.py";
const DESTINATIONS: u32 = 10_000;
const ROUNDS: usize = 3;
const LINES_GOAL: f64 = 40.0;
const CAPTURES_GOAL: f64 = 100.0;
const MEMORY_GOAL_MIB: f64 = 64.0;
const MIB: f64 = (1 << 20) as f64;

/// JSON lines with a time, an address, a port and a protocol.
pub(super) fn lines(rig: &Rig) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log.jsonl");
    write_lines(&log, rig.sizes.lines)?;
    let ours = || {
        let mut command = rig.tracer();
        command.args(["generate", "--format", "iptables"]).arg(&log);
        command
    };
    let script = || {
        let mut command = Command::new("python3");
        command.args([Path::new(SCRIPT), &log]);
        command
    };
    compare(
        "JSON lines",
        "the plain script",
        &log,
        LINES_GOAL,
        &ours,
        &script,
    )
}

/// TCP connections with a few packets each.
pub(super) fn captures(rig: &Rig) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("trace.pcap");
    write_capture(&capture, rig.sizes.packets)?;
    let ours = || {
        let mut command = rig.tracer();
        command
            .args(["generate", "--format", "iptables"])
            .arg(&capture);
        command
    };
    let tshark = || {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&capture).args(["-T", "fields"]);
        for field in ["ip.dst", "tcp.dstport", "udp.dstport", "dns.qry.name"] {
            command.args(["-e", field]);
        }
        command
    };
    compare(
        "captures",
        "tshark -T fields",
        &capture,
        CAPTURES_GOAL,
        &ours,
        &tshark,
    )
}

/// Ten times the lines must not take more memory.
pub(super) fn lines_memory(rig: &Rig) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let mut peaks = Vec::new();
    for lines in [rig.sizes.lines / 10, rig.sizes.lines] {
        let log = folder.path().join("log.jsonl");
        write_lines(&log, lines)?;
        let mut command = rig.tracer();
        command.args(["generate", "--format", "iptables"]).arg(&log);
        peaks.push((lines, peak(&mut command)? / MIB));
    }
    let [(few, small), (many, large)] = peaks[..] else {
        unreachable!("two sizes")
    };
    let figure = Figure::reported(
        &format!("peak memory, {many} lines, {DESTINATIONS} destinations"),
        format!("{large:.1} MiB ({small:.1} for {few} lines)"),
        json!({ "mib": large, "lines": many, "tenth_mib": small }),
    );
    // Within a few blocks of what is read.
    let met = large < MEMORY_GOAL_MIB && large - small < 4.0;
    Ok(vec![
        figure.against(format!("< {MEMORY_GOAL_MIB} MiB, flat"), met),
    ])
}

/// Both on the same file in turn, after it was read once into the page cache.
fn compare(
    what: &str,
    other: &str,
    file: &Path,
    goal: f64,
    ours: &dyn Fn() -> Command,
    theirs: &dyn Fn() -> Command,
) -> Result<Vec<Figure>> {
    let size = fs::metadata(file)?.len() as f64;
    ensure!(fs::read(file)?.len() as f64 == size, "the file changed");
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(seconds(&mut ours())?);
        others.push(seconds(&mut theirs())?);
    }
    let middle = |all: &[Taken], of: fn(&Taken) -> f64| median(all.iter().map(of));
    let wall = |all: &[Taken]| middle(all, |taken| taken.wall);
    let cpu = |all: &[Taken]| middle(all, |taken| taken.cpu);
    // A clock tick is the least that is counted.
    let cpu_ratio = cpu(&others) / cpu(&own).max(0.01);
    let (own, others) = (wall(&own), wall(&others));
    let (ratio, rate) = (others / own, size / own / 1e6);
    let figure = Figure::reported(
        &format!("{what}, {:.0} MB, against {other}", size / 1e6),
        format!(
            "× {ratio:.0}: {own:.2} s ({rate:.0} MB/s), {others:.1} s; of CPU time × {cpu_ratio:.0}"
        ),
        json!({
            "ratio": ratio, "seconds": own, "other_seconds": others, "bytes": size,
            "cpu_ratio": cpu_ratio,
        }),
    );
    Ok(vec![figure.against(format!("× {goal}"), ratio >= goal)])
}

/// Seconds that a command took.
struct Taken {
    wall: f64,
    /// Of all its threads.
    cpu: f64,
}

fn seconds(command: &mut Command) -> Result<Taken> {
    let (start, before) = (Instant::now(), children_cpu_seconds()?);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(Taken {
        wall: start.elapsed().as_secs_f64(),
        cpu: children_cpu_seconds()? - before,
    })
}

/// The most memory that a command had resident, in bytes, as far as a look every few milliseconds
/// tells.
fn peak(command: &mut Command) -> Result<f64> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{command:?}: {status}");
            return Ok(peak as f64);
        }
        // It may end between the two looks.
        peak = status_bytes(child.id(), "VmHWM").unwrap_or(0).max(peak);
        thread::sleep(Duration::from_millis(2));
    }
}

fn destination(dice: &mut Dice) -> u32 {
    // Some are much more frequent than others.
    let (one, other) = (
        dice.below(DESTINATIONS as usize),
        dice.below(DESTINATIONS as usize),
    );
    one.min(other) as u32
}

fn write_lines(path: &Path, lines: u32) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut dice = Dice::new();
    for line in 0..lines {
        // Each of them at least once.
        let host = if line < DESTINATIONS {
            line
        } else {
            destination(&mut dice)
        };
        let [_, _, high, low] = host.to_be_bytes();
        let (minute, second, micro) = (
            line / 60_000_000 % 60,
            line / 1_000_000 % 60,
            line % 1_000_000,
        );
        writeln!(
            file,
            "{{\"timestamp\": \"2026-11-22T10:{minute:02}:{second:02}.{micro:06}Z\", \
             \"dest_ip\": \"198.18.{high}.{low}\", \"dest_port\": 443, \"protocol\": \"tcp\"}}"
        )?;
    }
    Ok(file.flush()?)
}

/// pcap with raw IPv4: SYN, SYN-ACK, and six segments of 1,000 bytes for each connection.
fn write_capture(path: &Path, packets: u32) -> Result<()> {
    const SEGMENTS: u32 = 8;
    let mut file = BufWriter::new(File::create(path)?);
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.write_all(&word.to_le_bytes())?;
    }
    let mut dice = Dice::new();
    for connection in 0..packets / SEGMENTS {
        let host = if connection < DESTINATIONS {
            connection
        } else {
            destination(&mut dice)
        };
        let server = (198 << 24) | (18 << 16) | host;
        let port = 32_768 + (connection % 28_000) as u16;
        for segment in 0..SEGMENTS {
            let packet = tcp(server, port, segment);
            let length = packet.len() as u32;
            for word in [1_795_341_600 + connection / 1000, segment, length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(&packet)?;
        }
    }
    Ok(file.flush()?)
}

/// One packet of a connection: the first to the server, the second back, the others to the server.
fn tcp(server: u32, port: u16, segment: u32) -> Vec<u8> {
    const CLIENT: u32 = (10 << 24) | 5;
    let (from, to, ports, flags, payload) = match segment {
        0 => (CLIENT, server, [port, 443], 0x02, 0),
        1 => (server, CLIENT, [443, port], 0x12, 0),
        _data => (CLIENT, server, [port, 443], 0x10, 1000),
    };
    // A SYN takes a number of its own.
    let sequence = match segment {
        0 | 1 => 1,
        data => 2 + (data - 2) * 1000,
    };
    let mut packet = vec![0x45, 0];
    packet.extend((40 + payload as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(ports.map(u16::to_be_bytes).concat());
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.resize(40 + payload, b'x');
    packet
}
