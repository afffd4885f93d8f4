//! Programs and maps: loading, attaching, and letting go of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, ProgramError,
        ProgramType, RawTracePoint,
    },
    sys::is_helper_supported,
};
use aya_log::EbpfLogger;
use aya_obj::generated::bpf_func_id;
use tracer_common::{
    flow::{FlowKey, FlowValue},
    offsets::ProcessOffsets,
};

use super::{
    foreign::{self, FIRST_HOOKS, First, Foreign},
    offsets::{self, Found},
    sweep::FlowTables,
    sys,
};

/// The kernel half, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf"));

/// The programs without which recording makes no sense, and the direction of each.
const ADDRESS_HOOKS: [&str; 4] = ["connect4", "connect6", "sendmsg4", "sendmsg6"];
const EGRESS_HOOK: &str = "datagram_egress";
const CGROUP_HOOKS: [&str; 2] = ["cgroup_mkdir", "cgroup_rmdir"];
/// Each with what is not seen without it.
const PROCESS_HOOKS: [(&str, &str); 3] = [
    (
        "sched_process_exec",
        "command lines of processes that end before they are looked up in /proc",
    ),
    ("task_newtask", "ancestors of short-lived processes"),
    (
        "sched_process_exit",
        "the end of processes: they are remembered for longer than needed",
    ),
];

/// Sizes, set before loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Keys in the flow table, at least 64.
    pub table_entries: u32,
    /// Keys of one cgroup in the flow table.
    pub cgroup_quota: u32,
    /// Bytes of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// The same of the ring of processes.
    pub process_ring_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            table_entries: 32_768,
            cgroup_quota: 16_384,
            ring_bytes: 1 << 20,
            process_ring_bytes: 1 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the kernel's type information")]
    Btf(#[from] btf_rs::Error),
    #[error("cannot load the eBPF object")]
    Object(#[from] EbpfError),
    #[error("the kernel refused the program {name}: {reason}")]
    Program { name: &'static str, reason: String },
    #[error("cannot open the cgroup {path}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("cannot install a flow table of {entries} entries")]
    Table { entries: u32, source: io::Error },
    #[error("the map {name} is not what it should be")]
    Map {
        name: &'static str,
        source: MapError,
    },
    #[error("the eBPF object lacks {0}: it was built from other sources")]
    Missing(&'static str),
}

/// The kernel's refusal in one line; the verifier's own words, which are many, go to the log.
fn refused(name: &'static str) -> impl Fn(ProgramError) -> LoadError {
    move |error| {
        let text = error.to_string();
        tracing::debug!("{name}: {text}");
        let reason = text.lines().next().unwrap_or_default().to_owned();
        LoadError::Program { name, reason }
    }
}

/// Everything loaded. Dropping it detaches all of it.
pub struct Loaded {
    /// Owns programs and links; `None` once detached.
    ebpf: Option<Ebpf>,
    pub tables: FlowTables,
    /// Taken by the one task that reads it.
    pub ring: Option<RingBuf<MapData>>,
    pub processes: Option<RingBuf<MapData>>,
    pub quotas: OwnedFd,
    pub losses: PerCpuArray<MapData, u64>,
    /// The set of what left in place of what was asked for.
    pub translations: OwnedFd,
    pub foreign: Foreign,
    reads_verdict: bool,
    /// The probe's own diagnostics, when they were asked for.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// What is attached, by name.
    pub hooks: Vec<String>,
    /// What this kernel refused and recording goes on without, and what is therefore not seen.
    pub missing: BTreeMap<String, String>,
}

/// Loads every program; nothing is attached yet.
///
/// `verbose` turns the probe's own diagnostics on.
///
/// # Errors
/// The kernel refuses a program or a map, or the object was built from other sources.
pub fn load(sizes: Sizes, verbose: bool) -> Result<Loaded, LoadError> {
    let found = offsets::find(Path::new(offsets::VMLINUX_BTF))?;
    let reads_verdict = reads_verdict();
    let mut ebpf = load_object(sizes, &found, verbose, reads_verdict)?;
    load_programs(&mut ebpf)?;
    // Reading the kernel's type information takes megabytes that are not needed again.
    sys::give_memory_back();
    let log = verbose
        .then(|| EbpfLogger::init(&mut ebpf))
        .and_then(|log| {
            log.inspect_err(|error| tracing::warn!("no diagnostics from the probe: {error}"))
                .ok()
        });
    let table = |source| LoadError::Table {
        entries: sizes.table_entries,
        source,
    };
    let outer = owned_fd(take(&mut ebpf, "FLOWS")?).map_err(table)?;
    let state = owned_fd(take(&mut ebpf, "STATE")?).map_err(table)?;
    let pair = [
        owned_fd(take(&mut ebpf, "FLOWS_A")?).map_err(table)?,
        owned_fd(take(&mut ebpf, "FLOWS_B")?).map_err(table)?,
    ];
    let tables = FlowTables::install(outer, state, pair).map_err(table)?;
    let quotas = owned_fd(take(&mut ebpf, "QUOTAS")?).map_err(table)?;
    // The bucket that cgroups share when the table of quotas is full.
    sys::update(
        quotas.as_fd(),
        &0_u64,
        &tracer_common::limits::CgroupQuota::default(),
    )
    .map_err(table)?;
    let translations = owned_fd(take(&mut ebpf, "TRANSLATIONS")?).map_err(table)?;
    let flag = owned_fd(take(&mut ebpf, "FIRST_ATTACHED")?).map_err(table)?;
    let foreign = Foreign::new(load_first(&mut ebpf), flag, own_tags(&ebpf));
    Ok(Loaded {
        translations,
        foreign,
        reads_verdict,
        tables,
        ring: Some(typed(&mut ebpf, "EVENTS")?),
        processes: Some(typed(&mut ebpf, "PROCESSES")?),
        quotas,
        losses: typed(&mut ebpf, "LOSSES")?,
        log,
        hooks: Vec::new(),
        missing: BTreeMap::new(),
        ebpf: Some(ebpf),
    })
}

impl Loaded {
    /// Attaches the address and egress hooks to a cgroup and all below it, beside whatever else
    /// is attached there.
    ///
    /// # Errors
    /// The cgroup cannot be opened or the kernel refuses.
    pub fn attach_cgroup(&mut self, path: &Path) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_mut().ok_or(LoadError::Missing("programs"))?;
        let cgroup = File::open(path).map_err(|source| LoadError::Cgroup {
            path: path.to_owned(),
            source,
        })?;
        for name in ADDRESS_HOOKS {
            let program: &mut CgroupSockAddr = program(ebpf, name)?;
            // "Single" is what the kernel calls a plain link, and links are multi-attach.
            program
                .attach(&cgroup, CgroupAttachMode::Single)
                .map_err(refused(name))?;
        }
        let egress: &mut CgroupSkb = program(ebpf, EGRESS_HOOK)?;
        egress
            .attach(
                &cgroup,
                CgroupSkbAttachType::Egress,
                CgroupAttachMode::Single,
            )
            .map_err(refused(EGRESS_HOOK))?;
        self.foreign.add(cgroup);
        if let Err(error) = self.foreign.check() {
            tracing::warn!("cannot tell whether other address programs are loaded: {error}");
        }
        let names = ADDRESS_HOOKS.iter().chain([&EGRESS_HOOK]);
        for name in names.map(|name| (*name).to_owned()) {
            if !self.hooks.contains(&name) {
                self.hooks.push(name);
            }
        }
        Ok(())
    }

    /// Attaches the cgroup tracepoints, which tell of containers before their first process.
    ///
    /// # Errors
    /// The kernel lacks them or refuses.
    pub fn attach_cgroup_events(&mut self) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_mut().ok_or(LoadError::Missing("programs"))?;
        for name in CGROUP_HOOKS {
            let program: &mut RawTracePoint = program(ebpf, name)?;
            program.attach(name).map_err(refused(name))?;
            self.hooks.push(name.to_owned());
        }
        Ok(())
    }

    /// Attaches the tracepoints that follow processes. Without one of them, recording goes on
    /// with less: [`Self::missing`] says so.
    pub fn attach_process_events(&mut self) {
        let Some(ebpf) = self.ebpf.as_mut() else {
            return;
        };
        for (name, unseen) in PROCESS_HOOKS {
            match attach_tracepoint(ebpf, name) {
                Ok(()) => self.hooks.push(name.to_owned()),
                Err(error) => {
                    tracing::warn!("not seen: {unseen}: {error}");
                    self.missing.insert(name.to_owned(), unseen.to_owned());
                }
            }
        }
    }

    /// What this kernel lacks, by name, each with what is therefore not seen.
    #[must_use]
    pub fn missing(&self) -> BTreeMap<String, String> {
        let mut missing = self.missing.clone();
        if !self.reads_verdict {
            missing.insert("verdict".to_owned(), VERDICTS_UNSEEN.to_owned());
        }
        if self.foreign.state() == foreign::State::Refused {
            missing.insert("preorder".to_owned(), foreign::REWRITES_UNSEEN.to_owned());
        }
        missing
    }

    /// Detaches every program; the maps stay readable, so that what is in them can be drained.
    pub fn detach(&mut self) {
        self.foreign.detach();
        self.ebpf = None;
        self.hooks.clear();
    }
}

/// Loaded only now: a verifier that refuses it must not cost the other programs.
fn attach_tracepoint(ebpf: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    let program: &mut RawTracePoint = program(ebpf, name)?;
    program.load().map_err(refused(name))?;
    program.attach(name).map_err(refused(name))?;
    let verified = program
        .info()
        .ok()
        .and_then(|info| info.verified_instruction_count());
    tracing::debug!(
        "{name}: the verifier looked at {} instructions",
        verified.unwrap_or(0)
    );
    Ok(())
}

/// What is not seen where address hooks cannot read what programs before them decided.
const VERDICTS_UNSEEN: &str =
    "a connection that another cgroup program denies is recorded as unknown, not as blocked";

/// `bpf_get_retval` in address hooks: Linux 6.1.
fn reads_verdict() -> bool {
    is_helper_supported(
        ProgramType::CgroupSockAddr,
        bpf_func_id::BPF_FUNC_get_retval,
    )
    .inspect_err(|error| tracing::debug!("cannot try bpf_get_retval: {error}"))
    .unwrap_or(false)
}

/// The programs that go first where somebody else's rewrite. Recording works without them.
fn load_first(ebpf: &mut Ebpf) -> Vec<First> {
    let mut load = |name, attach_type| -> Result<First, LoadError> {
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        program.load().map_err(refused(name))?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?));
        let fd = fd.map_err(refused(name))?;
        let program = fd.as_fd().try_clone_to_owned();
        let program = program.map_err(|error| refused(name)(error.into()))?;
        Ok(First {
            program,
            attach_type,
        })
    };
    let all: Result<Vec<First>, LoadError> = FIRST_HOOKS
        .into_iter()
        .map(|(name, attach_type)| load(name, attach_type))
        .collect();
    all.inspect_err(|error| tracing::warn!("{error}"))
        .unwrap_or_default()
}

/// The tags of our address programs.
fn own_tags(ebpf: &Ebpf) -> BTreeSet<u64> {
    let names = ADDRESS_HOOKS
        .into_iter()
        .chain(FIRST_HOOKS.map(|(name, _)| name));
    names
        .filter_map(|name| ebpf.program(name)?.info().ok())
        .map(|info| info.tag())
        .collect()
}

fn load_object(
    sizes: Sizes,
    found: &Found,
    verbose: bool,
    reads_verdict: bool,
) -> Result<Ebpf, LoadError> {
    let words: [u32; 8] = bytemuck::cast(found.offsets);
    let process_words: [u32; ProcessOffsets::WORDS] = bytemuck::cast(found.processes);
    let wake_bytes = u64::from(sizes.process_ring_bytes / 4);
    let quota = u64::from(sizes.cgroup_quota);
    let reads_verdict = u64::from(reads_verdict);
    let level: u8 = if verbose { u8::MAX } else { 0 };
    let ebpf = EbpfLoader::new()
        .override_global("OFFSETS", words.as_slice(), true)
        .override_global("PROCESS_OFFSETS", process_words.as_slice(), true)
        .override_global("PROCESS_WAKE_BYTES", &wake_bytes, true)
        .override_global("CGROUP_QUOTA", &quota, true)
        .override_global("READ_VERDICT", &reads_verdict, true)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries("EVENTS", sizes.ring_bytes)
        .map_max_entries("PROCESSES", sizes.process_ring_bytes)
        .map_max_entries("FLOWS_A", sizes.table_entries)
        .map_max_entries("FLOWS_B", sizes.table_entries)
        .load(OBJECT)?;
    Ok(ebpf)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in ADDRESS_HOOKS {
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        program.load().map_err(refused(name))?;
    }
    let egress: &mut CgroupSkb = program(ebpf, EGRESS_HOOK)?;
    egress.load().map_err(refused(EGRESS_HOOK))?;
    for name in CGROUP_HOOKS {
        let program: &mut RawTracePoint = program(ebpf, name)?;
        program.load().map_err(refused(name))?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(LoadError::Missing(name))?
        .try_into()
        .map_err(refused(name))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Missing(name))
}

fn typed<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    M::try_from(take(ebpf, name)?).map_err(|source| LoadError::Map { name, source })
}

/// The descriptor of a map that is used through [`sys`] alone.
fn owned_fd(map: Map) -> io::Result<OwnedFd> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a list of thirty kinds tells nothing"
    )]
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) | Map::HashMap(data) => {
            data.fd().as_fd().try_clone_to_owned()
        }
        _ => Err(io::Error::other("unexpected kind of map")),
    }
}

/// Kernel memory that a flow table of this many entries takes: key, value and the kernel's own
/// 48 bytes an element, preallocated, twice.
#[must_use]
pub fn table_bytes(entries: u32) -> u64 {
    let element = 48 + size_of::<FlowKey>() + size_of::<FlowValue>();
    2 * u64::from(entries) * element as u64
}
