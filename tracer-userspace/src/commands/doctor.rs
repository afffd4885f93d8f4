//! `doctor`: what works on this machine, what does not, and what is therefore not seen.

use std::{
    fmt::{Display, Write as _},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    engines::{Engines, Examined},
    live::PROC,
    run_cgroup::RunCgroup,
};
use crate::{
    conntrack,
    ebpf::{
        load::{self, Loaded, Sizes},
        offsets::{self, VMLINUX_BTF},
        pin::{self, PinError, Pins},
        support::{self, Cgroup2},
    },
    inventory,
    output::terminal::{self, escape},
    privilege::{calls, capabilities, places},
};

/// Says what this machine lets us see, and what not.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    engines: Engines,
    /// Where the daemon pins what outlives it
    #[arg(long, value_name = "DIR", default_value = pin::DEFAULT)]
    pin: PathBuf,
    /// Also say how many instructions of each program the kernel's verifier looked at
    #[arg(long)]
    programs: bool,
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

const ENGINE: &str = "container engine";
const OTHER_KERNEL: &str = "other kernel";

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
        "frames",
        "where AF_PACKET, AF_XDP and TUN send to: only that they do",
    ),
    (
        "Unix sockets",
        "connections on which nothing is sent, and datagrams that name the socket each time",
    ),
    (
        "later programs",
        "what a cgroup program that runs after ours denies or rewrites; the latter shows on the packet",
    ),
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
        findings.extend(hooks(cgroup2, proc, args.programs));
    }
    findings.push(match inventory::is_supported() {
        true => finding(
            "open connections",
            Verdict::Works,
            "the daemon lists them once",
        ),
        false => finding("open connections", Verdict::Reduced, inventory::UNLISTED),
    });
    findings.push(match conntrack::check() {
        Ok(()) => finding(
            "rewrites by the host",
            Verdict::Works,
            "NAT of this network namespace is told, for containers too",
        ),
        Err(error) => finding(
            "rewrites by the host",
            Verdict::Reduced,
            format!("not seen: {}: {error}", conntrack::UNSEEN),
        ),
    });
    findings.push(pins(&args.pin));
    findings.push(confinement());
    findings.extend(engines(&args.engines));
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
        Ok(true) => match &capabilities::missing()[..] {
            [] => finding("privilege", Verdict::Works, "may load and attach programs"),
            missing => {
                let missing = missing.iter();
                let each = missing.map(|(name, what)| format!("{name} is missing, which {what}"));
                let detail = each.collect::<Vec<_>>().join("; ");
                finding("privilege", Verdict::Reduced, detail)
            }
        },
        Ok(false) => finding(
            "privilege",
            Verdict::Blocks,
            support::Unsupported::Privilege,
        ),
        Err(error) => finding("privilege", Verdict::Blocks, error),
    }
}

/// What the daemon cannot give up on this kernel.
fn confinement() -> Finding {
    let unsupported: Vec<&str> = [
        (!calls::is_supported()).then_some("no seccomp: the daemon may make every system call"),
        (!places::is_supported()).then_some("no Landlock: the daemon may write anywhere"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match unsupported.is_empty() {
        true => {
            let detail =
                "the daemon gives up system calls, and writes below its own directories alone";
            finding("confinement", Verdict::Works, detail)
        }
        false => finding("confinement", Verdict::Reduced, unsupported.join("; ")),
    }
}

fn btf() -> Finding {
    match offsets::find(Path::new(VMLINUX_BTF)) {
        Ok(found) => match found.missing() {
            0 => finding("type information", Verdict::Works, VMLINUX_BTF),
            missing => finding(
                "type information",
                Verdict::Reduced,
                format!(
                    "{missing} kernel fields are unknown: start times, cgroup ids or paths are missing"
                ),
            ),
        },
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
fn hooks(cgroup2: &Cgroup2, proc: &Path, programs: bool) -> Vec<Finding> {
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
    loaded.attach_process_events();
    let processes = processes(&loaded);
    loaded.attach_connection_events();
    let outcomes = outcomes(&loaded);
    let wire = wire(&loaded);
    let ways = ways(&loaded);
    // Kept until all is tried: nothing is attached to a cgroup that is gone.
    let cgroup = RunCgroup::make(&cgroup2.mount, proc);
    let attached = cgroup
        .as_ref()
        .map(|cgroup| loaded.attach_cgroup(cgroup.path()));
    let rewrites = matches!(attached, Ok(Ok(_))).then(|| others(&mut loaded));
    let address = match attached {
        Ok(Ok(_since)) => finding("connection hooks", Verdict::Works, loaded.hooks.join(", ")),
        Ok(Err(error)) => finding("connection hooks", Verdict::Blocks, error),
        // The daemon makes none.
        Err(error) => {
            let detail = format!("not tried, and `run` does not work: {error:#}");
            finding("connection hooks", Verdict::Reduced, detail)
        }
    };
    [events, processes, address, ways, outcomes, wire]
        .into_iter()
        .chain(rewrites)
        .chain(programs.then(|| verified(&loaded)).into_iter().flatten())
        .collect()
}

/// What each program costs the verifier, which gives up at a million.
fn verified(loaded: &Loaded) -> Vec<Finding> {
    let programs = loaded.verified().into_iter();
    programs
        .map(|(name, count)| {
            let detail = format!("{name}: the verifier looked at {count} instructions");
            finding("program", Verdict::Works, detail)
        })
        .collect()
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

/// Whether other people's cgroup programs hide what they do.
fn others(loaded: &mut Loaded) -> Finding {
    if let Err(error) = loaded.foreign.attach() {
        return finding("other programs", Verdict::Reduced, error);
    }
    let missing: Vec<String> = loaded.unseen_of_others();
    match missing.is_empty() {
        true => finding(
            "other programs",
            Verdict::Works,
            "what they deny or rewrite before us is told",
        ),
        false => finding("other programs", Verdict::Reduced, missing.join("; ")),
    }
}

/// Whether names are seen.
fn wire(loaded: &Loaded) -> Finding {
    let missing = loaded.unheard();
    if missing.is_empty() {
        let detail = "DNS answers and first bytes of connections name destinations";
        return finding("names", Verdict::Works, detail);
    }
    finding("names", Verdict::Reduced, missing.join("; "))
}

/// Whether less common ways out are seen.
fn ways(loaded: &Loaded) -> Finding {
    let missing = loaded.unwatched();
    if missing.is_empty() {
        let detail = "ping, raw and UDP-Lite sockets, TUN devices, and who spoke first over UDP";
        return finding("other ways out", Verdict::Works, detail);
    }
    let missing = missing.iter();
    let unseen: Vec<_> = missing
        .map(|(name, unseen)| format!("{name}: not seen: {unseen}"))
        .collect();
    finding("other ways out", Verdict::Reduced, unseen.join("; "))
}

/// Whether it is known what becomes of connections.
fn outcomes(loaded: &Loaded) -> Finding {
    let missing = loaded.unsettled();
    if missing.is_empty() {
        let detail = "what becomes of TCP connections, and how much was said";
        return finding("outcomes", Verdict::Works, detail);
    }
    let unseen: Vec<_> = missing.iter().map(|(_, unseen)| *unseen).collect();
    finding(
        "outcomes",
        Verdict::Reduced,
        format!("not seen: {}", unseen.join("; ")),
    )
}

fn processes(loaded: &Loaded) -> Finding {
    let missing = loaded.unfollowed();
    if missing.is_empty() {
        let detail = "short-lived processes have a command line and ancestors";
        return finding("process events", Verdict::Works, detail);
    }
    let missing = missing.iter();
    let unseen: Vec<_> = missing
        .map(|(name, unseen)| format!("{name}: not seen: {unseen}"))
        .collect();
    finding("process events", Verdict::Reduced, unseen.join("; "))
}

fn engines(engines: &Engines) -> Vec<Finding> {
    match engines.examine() {
        Ok(found) if found.is_empty() => vec![finding(
            ENGINE,
            Verdict::Reduced,
            "none is there: containers are called by their ids",
        )],
        Ok(found) => found.into_iter().flat_map(engine).collect(),
        Err(error) => vec![finding(ENGINE, Verdict::Reduced, error)],
    }
}

fn engine(
    Examined {
        socket,
        about,
        isolated,
    }: Examined,
) -> Vec<Finding> {
    let at = socket.path.display();
    let about = match about {
        Ok(about) => about,
        Err(error) => {
            let detail = format!("{at}: {error}: its containers are called by their ids");
            return vec![finding(ENGINE, Verdict::Reduced, detail)];
        }
    };
    let answers = format!("{} {} answers at {at}", about.name, about.version);
    let mut findings = vec![finding(ENGINE, Verdict::Works, answers)];
    let configured: Vec<_> = about.isolated().collect();
    if !configured.is_empty() {
        let detail = format!(
            "{at}: containers under {} have a kernel of their own and are not seen: run egress-tracer inside, or capture outside",
            configured.join(", ")
        );
        findings.push(finding(OTHER_KERNEL, Verdict::Reduced, detail));
    }
    findings.extend(isolated.into_iter().map(|(name, runtime)| {
        let detail = format!("{name} runs under {runtime}: nothing of it is seen");
        finding(OTHER_KERNEL, Verdict::Reduced, detail)
    }));
    findings
}

fn finding(what: &'static str, verdict: Verdict, detail: impl Display) -> Finding {
    Finding {
        what,
        verdict,
        detail: detail.to_string(),
    }
}
