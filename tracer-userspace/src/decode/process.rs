//! The ring of processes' events as an enum.

use tracer_common::{
    event::Header,
    process::{self as wire, exec, kind},
};

/// One process for good: pids come round again, start times do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    pub pid: u32,
    /// Nanoseconds since boot; 0 if unknown.
    pub start: u64,
}

/// What a process did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    Forked(Forked),
    Executed(Box<Executed>),
    /// Its last thread is gone.
    Exited {
        at_ns: u64,
        id: ProcessId,
    },
}

impl ProcessEvent {
    /// Where it happened; an exit does not tell.
    #[must_use]
    pub fn cgroup_id(&self) -> Option<u64> {
        match self {
            Self::Forked(forked) => Some(forked.kin.cgroup_id),
            Self::Executed(executed) => Some(executed.kin.cgroup_id),
            Self::Exited { .. } => None,
        }
    }
}

/// A process, its parent, and the cgroups of both at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    pub id: ProcessId,
    /// In the innermost pid namespace; 0 if unknown.
    pub ns_pid: u32,
    pub cgroup_id: u64,
    pub parent: ProcessId,
    pub parent_cgroup_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
    pub kin: Kin,
    /// Whose program the child runs.
    pub maker: ProcessId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    pub at_ns: u64,
    pub kin: Kin,
    pub program: Program,
}

/// What a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// NUL-padded.
    pub comm: [u8; 16],
    /// As `/proc/<pid>/exe` shows it; begins with `…` where its beginning is missing.
    pub exe: Option<String>,
    pub cwd: Option<String>,
    /// Arguments, each ended by a NUL.
    pub argv: Vec<u8>,
    /// There is more of the command line.
    pub argv_cut: bool,
}

/// Decodes one event; `None` if it is too short or of a kind that this version does not know.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<ProcessEvent> {
    match pod::<Header>(bytes)?.kind {
        kind::FORKED => {
            let forked: wire::Forked = pod(bytes)?;
            Some(ProcessEvent::Forked(Forked {
                at_ns: forked.at_ns,
                kin: kin(&forked.kin),
                maker: id(&forked.maker),
            }))
        }
        kind::EXECUTED => executed(bytes).map(|event| ProcessEvent::Executed(Box::new(event))),
        kind::EXITED => {
            let exited: wire::Exited = pod(bytes)?;
            Some(ProcessEvent::Exited {
                at_ns: exited.at_ns,
                id: id(&exited.process),
            })
        }
        _unknown => None,
    }
}

fn executed(bytes: &[u8]) -> Option<Executed> {
    let event: wire::Executed = pod(bytes)?;
    let rest = bytes.get(size_of::<wire::Executed>()..)?;
    let (exe, rest) = rest.split_at_checked(event.exe_len as usize)?;
    let (cwd, rest) = rest.split_at_checked(event.cwd_len as usize)?;
    let argv = rest.get(..event.argv_len as usize)?;
    let is = |bit| event.flags & bit != 0;
    let exe = path(exe, is(exec::EXE_CUT), is(exec::EXE_UNLINKED));
    Some(Executed {
        at_ns: event.at_ns,
        kin: kin(&event.kin),
        program: Program {
            comm: event.comm,
            // A program is never the root.
            exe: exe.filter(|path| path != "/"),
            cwd: path(cwd, is(exec::CWD_CUT), is(exec::CWD_UNLINKED)),
            argv: argv.to_vec(),
            argv_cut: is(exec::ARGV_CUT),
        },
    })
}

/// From components, last first, each ended by a NUL, to a path.
fn path(bytes: &[u8], is_cut: bool, is_unlinked: bool) -> Option<String> {
    let components = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if components.is_empty() {
        // The root, unless nothing could be read.
        return (!is_cut).then(|| "/".to_owned());
    }
    let mut path = if is_cut { "…" } else { "" }.to_owned();
    for component in components.rsplit(|byte| *byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    if is_unlinked {
        path.push_str(" (deleted)");
    }
    Some(path)
}

fn kin(kin: &wire::Kin) -> Kin {
    Kin {
        id: id(&kin.process),
        ns_pid: kin.process.ns_pid,
        cgroup_id: kin.cgroup_id,
        parent: id(&kin.parent),
        parent_cgroup_id: kin.parent_cgroup_id,
    }
}

fn id(identity: &wire::Identity) -> ProcessId {
    ProcessId {
        pid: identity.pid,
        start: identity.start,
    }
}

fn pod<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes
        .get(..size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use proptest::prelude::*;

    use super::*;

    fn event(flags: u32, exe: &[u8], cwd: &[u8], argv: &[u8]) -> Vec<u8> {
        let mut event = wire::Executed::zeroed();
        event.header.kind = kind::EXECUTED;
        event.flags = flags;
        event.kin.process.pid = 7;
        [event.exe_len, event.cwd_len, event.argv_len] =
            [exe, cwd, argv].map(|bytes| bytes.len() as u32);
        [bytemuck::bytes_of(&event), exe, cwd, argv].concat()
    }

    fn program(bytes: &[u8]) -> Program {
        match decode(bytes) {
            Some(ProcessEvent::Executed(event)) => event.program,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exec_has_its_paths_the_right_way_round() {
        let read = program(&event(0, b"curl\0bin\0usr\0", b"", b"curl\0-s\0\0"));
        assert_eq!(read.exe.as_deref(), Some("/usr/bin/curl"));
        assert_eq!(read.cwd.as_deref(), Some("/"));
        assert_eq!(read.argv, b"curl\0-s\0\0");
    }

    #[test]
    fn what_is_cut_or_unlinked_says_so() {
        let flags = exec::EXE_UNLINKED | exec::CWD_CUT | exec::ARGV_CUT;
        let read = program(&event(flags, b"memfd:x\0", b"c\0\xff\n\0", b"a"));
        assert_eq!(read.exe.as_deref(), Some("/memfd:x (deleted)"));
        assert_eq!(read.cwd.as_deref(), Some("…/\u{fffd}\n/c"));
        assert!(read.argv_cut);
        let nothing = program(&event(exec::EXE_CUT, b"", b"", b""));
        assert_eq!(nothing.exe, None);
    }

    #[test]
    fn a_short_event_is_refused() {
        let bytes = event(0, b"curl\0", b"tmp\0", b"curl\0");
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            kind in 8_u32..14,
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [&kind.to_ne_bytes()[..], &rest].concat();
            let _decoded = decode(&bytes);
        }

        #[test]
        fn no_lengths_make_it_panic(
            lengths: [u32; 3],
            flags: u32,
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut event = wire::Executed::zeroed();
            event.header.kind = kind::EXECUTED;
            event.flags = flags;
            [event.exe_len, event.cwd_len, event.argv_len] = lengths.map(|length| length % 700);
            let _decoded = decode(&[bytemuck::bytes_of(&event), &rest].concat());
        }
    }
}
