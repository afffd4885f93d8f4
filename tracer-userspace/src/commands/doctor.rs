//! `doctor`: what works on this machine, what does not, and what is therefore not seen.

use std::{
    fmt::{Display, Write as _},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{live::PROC, run_cgroup::RunCgroup};
use crate::{
    ebpf::{
        load::{self, Sizes},
        offsets::{self, VMLINUX_BTF},
        pin::{self, PinError, Pins},
        support::{self, Cgroup2},
    },
    enrich::docker,
    output::terminal::{self, escape},
};

/// Says what this machine lets us see, and what not.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Where the Docker engine listens
    #[arg(long, value_name = "SOCKET", default_value = docker::DEFAULT_SOCKET)]
    docker_socket: PathBuf,
    /// Where the daemon pins what outlives it
    #[arg(long, value_name = "DIR", default_value = pin::DEFAULT)]
    pin: PathBuf,
}

/// One thing that was tried.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Works,
    /// Recording works without it, and sees less.
    Reduced,
    /// Nothing can be recorded.
    Blocks,
}

/// Tries everything that recording needs; exit code 1 if nothing can be recorded.
#[must_use]
pub fn doctor(args: &DoctorArgs) -> ExitCode {
    let findings = examine(args);
    // Whoever reads may have seen enough.
    let _read = terminal::data(&describe(&findings));
    let blocked = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Blocks);
    ExitCode::from(u8::from(blocked))
}

fn describe(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Works => "ok  ",
            Verdict::Reduced => "less",
            Verdict::Blocks => "NO  ",
        };
        let detail = escape(&finding.detail);
        let _written = writeln!(text, "{mark}  {:<21}  {detail}", finding.what);
    }
    text.push_str("\nnot seen by this version, on any kernel:\n");
    for (what, why) in UNSEEN {
        let _written = writeln!(text, "      {what:<21}  {why}");
    }
    text
}

/// What no hook of this version sees.
const UNSEEN: [(&str, &str); 4] = [
    (
        "raw and ping sockets",
        "ICMP and own headers: they pass no address hook",
    ),
    ("AF_PACKET, TUN, vsock", "they bypass IP sockets"),
    ("open sockets", "connected before recording began"),
    (
        "other kernels",
        "gVisor, Kata and microVM guests: run the daemon inside",
    ),
];

fn examine(args: &DoctorArgs) -> Vec<Finding> {
    let proc = Path::new(PROC);
    let mut findings = vec![kernel(proc), privilege(proc), btf()];
    let cgroup2 = Cgroup2::find(proc);
    findings.push(hierarchy(&cgroup2));
    let blocked = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Blocks);
    if let (Ok(cgroup2), false) = (&cgroup2, blocked) {
        findings.extend(hooks(cgroup2, proc));
    }
    findings.push(pins(&args.pin));
    findings.push(engine(&args.docker_socket));
    findings
}

fn kernel(proc: &Path) -> Finding {
    let release = fs::read_to_string(proc.join("sys/kernel/osrelease")).unwrap_or_default();
    finding(
        "kernel",
        Verdict::Works,
        format!("Linux {}", release.trim()),
    )
}

fn privilege(proc: &Path) -> Finding {
    match support::may_load_programs(proc) {
        Ok(true) => finding("privilege", Verdict::Works, "may load and attach programs"),
        Ok(false) => finding(
            "privilege",
            Verdict::Blocks,
            support::Unsupported::Privilege,
        ),
        Err(error) => finding("privilege", Verdict::Blocks, error),
    }
}

fn btf() -> Finding {
    match offsets::find(Path::new(VMLINUX_BTF)) {
        Ok(found) => {
            let missing = bytemuck::cast::<_, [u32; 8]>(found)
                .iter()
                .filter(|offset| **offset == tracer_common::offsets::ABSENT)
                .count();
            match missing {
                0 => finding("type information", Verdict::Works, VMLINUX_BTF),
                _ => finding(
                    "type information",
                    Verdict::Reduced,
                    format!(
                        "{missing} kernel fields are unknown: start times or cgroup ids are missing"
                    ),
                ),
            }
        }
        Err(_) if !Path::new(VMLINUX_BTF).exists() => finding(
            "type information",
            Verdict::Blocks,
            support::Unsupported::NoBtf,
        ),
        Err(error) => finding("type information", Verdict::Blocks, error),
    }
}

fn hierarchy(cgroup2: &Result<Cgroup2, support::Unsupported>) -> Finding {
    match cgroup2 {
        Ok(Cgroup2 { mount, hybrid }) => {
            let beside = if *hybrid {
                " (cgroup v1 beside it)"
            } else {
                ""
            };
            finding(
                "cgroup v2",
                Verdict::Works,
                format!("{}{beside}", mount.display()),
            )
        }
        Err(error) => finding("cgroup v2", Verdict::Blocks, error),
    }
}

/// Loads everything and attaches it to a cgroup in which nothing runs.
fn hooks(cgroup2: &Cgroup2, proc: &Path) -> Vec<Finding> {
    let mut loaded = match load::load(
        Sizes {
            table_entries: 64,
            ..Sizes::default()
        },
        false,
        None,
    ) {
        Ok(loaded) => loaded,
        Err(error) => {
            let chain = format!("{:#}", anyhow::Error::from(error));
            return vec![finding("programs", Verdict::Blocks, chain)];
        }
    };
    let events = match loaded.attach_cgroup_events() {
        Ok(()) => finding(
            "cgroup events",
            Verdict::Works,
            "containers are known before they run",
        ),
        Err(error) => finding("cgroup events", Verdict::Blocks, error),
    };
    let attached = RunCgroup::make(&cgroup2.mount, proc)
        .and_then(|cgroup| Ok(loaded.attach_cgroup(cgroup.path())?));
    let address = match attached {
        Ok(()) => finding("connection hooks", Verdict::Works, loaded.hooks.join(", ")),
        Err(error) => finding("connection hooks", Verdict::Blocks, format!("{error:#}")),
    };
    vec![events, address]
}

/// Whether a daemon can be restarted without a gap, and what one has left.
fn pins(directory: &Path) -> Finding {
    if !pin::is_bpffs(directory) {
        let detail = format!(
            "no bpffs at {}: the daemon mounts one at /sys/fs/bpf, or needs --no-pin",
            directory.display()
        );
        return finding("pins", Verdict::Reduced, detail);
    }
    let root = directory.display();
    match Pins::find(directory) {
        Ok(None) => finding("pins", Verdict::Works, format!("none in {root}")),
        Ok(Some(_)) => finding(
            "pins",
            Verdict::Works,
            format!(
                "{root}: left by a daemon, hooks go on counting (`egress-tracer detach` ends that)"
            ),
        ),
        Err(PinError::Held { pid, .. }) => finding(
            "pins",
            Verdict::Works,
            format!("{root}: held by a daemon (pid {pid})"),
        ),
        Err(error) => finding("pins", Verdict::Reduced, error),
    }
}

fn engine(socket: &Path) -> Finding {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => finding("Docker", Verdict::Works, socket.display()),
        Err(error) => finding(
            "Docker",
            Verdict::Reduced,
            format!(
                "{}: {error}: containers are called by their ids",
                socket.display()
            ),
        ),
    }
}

fn finding(what: &'static str, verdict: Verdict, detail: impl Display) -> Finding {
    Finding {
        what,
        verdict,
        detail: detail.to_string(),
    }
}
