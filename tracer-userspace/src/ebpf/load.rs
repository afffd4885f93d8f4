//! Programs and maps: loading them, and [`attach`]ing what was loaded.

mod attach;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, MapError, RingBuf},
    programs::{CgroupSkb, CgroupSockAddr, Program, ProgramError, ProgramType, RawTracePoint},
    sys::is_helper_supported,
};
use aya_log::EbpfLogger;
use aya_obj::generated::{bpf_attach_type, bpf_func_id};
use tracer_common::{
    flow::{FlowKey, FlowValue},
    offsets::{ProcessOffsets, SocketOffsets, UnixOffsets},
    wire::DNS_PORTS,
};

pub use self::attach::Hooked;
use super::{
    adopt::{self, Found, Replaced},
    foreign::{FIRST_HOOKS, First, Foreign},
    links::Links,
    losses::LossMap,
    objects, offsets,
    pin::{PinError, Pins},
    sweep::FlowTables,
    sys,
};

/// The kernel half, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf"));

/// The programs without which recording makes no sense.
const ADDRESS_HOOKS: [&str; 4] = ["connect4", "connect6", "sendmsg4", "sendmsg6"];
const EGRESS_HOOK: &str = "datagram_egress";

/// How those that a cgroup has are attached to it.
const ON_CGROUPS: [(&str, bpf_attach_type); 11] = [
    ("connect4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    ("connect6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
    ("sendmsg4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG),
    ("sendmsg6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG),
    (EGRESS_HOOK, bpf_attach_type::BPF_CGROUP_INET_EGRESS),
    ("wire_egress", bpf_attach_type::BPF_CGROUP_INET_EGRESS),
    (ANSWER_HOOK, bpf_attach_type::BPF_CGROUP_INET_INGRESS),
    ("sock_create", bpf_attach_type::BPF_CGROUP_INET_SOCK_CREATE),
    ("post_bind4", bpf_attach_type::BPF_CGROUP_INET4_POST_BIND),
    ("post_bind6", bpf_attach_type::BPF_CGROUP_INET6_POST_BIND),
    ("device_opened", bpf_attach_type::BPF_CGROUP_DEVICE),
];
/// Those of them without which recording goes on, each with what is then not seen.
const WIRE_HOOKS: [(&str, &str); 2] = [
    (
        "wire_egress",
        "DNS questions, and names in TLS, QUIC, HTTP and to proxies",
    ),
    (
        ANSWER_HOOK,
        "DNS answers: no name is proven; whether datagrams are answered; who spoke first: a UDP server's replies are recorded as egress",
    ),
];
/// An iterator: it is never attached.
const BOUND_BEFORE: &str = "bound_before";
const SERVERS_UNSEEN: &str = "which UDP sockets are servers': their replies are recorded as egress";
/// Those of ways that not everybody uses.
const WAY_HOOKS: [(&str, &str); 5] = [
    (
        "sock_create",
        "what raw, ping and connected UDP-Lite sockets send",
    ),
    ("post_bind4", SERVERS_UNSEEN),
    ("post_bind6", SERVERS_UNSEEN),
    (
        BOUND_BEFORE,
        "which UDP sockets were servers' before recording began: their replies are recorded as egress",
    ),
    ("device_opened", "who opens a TUN or TAP device"),
];
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

/// The same of following connections.
const CONNECTION_HOOKS: [(&str, &str); 2] = [
    (
        OUTCOME_HOOK,
        "what became of connections, how long they took and how much was said: attempts are recorded as unknown",
    ),
    (
        "sock_send_length",
        "what AF_PACKET, AF_XDP and AF_VSOCK sockets send, and Unix sockets that lead out",
    ),
];
/// What is not seen where the kernel's type information does not tell how Unix sockets are kept.
const UNIX_UNSEEN: &str = "Unix sockets that lead out, such as a container engine's";
/// Without it nobody tells whether datagrams are answered.
pub const ANSWER_HOOK: &str = "wire_ingress";
/// Without it no outcome is ever known.
pub const OUTCOME_HOOK: &str = "inet_sock_set_state";

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
    /// The same of the ring of the wire.
    pub wire_ring_bytes: u32,
    /// Where DNS is served; 0 is none.
    pub dns_ports: [u16; DNS_PORTS],
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            table_entries: 32_768,
            cgroup_quota: 16_384,
            ring_bytes: 1 << 20,
            process_ring_bytes: 1 << 20,
            wire_ring_bytes: 1 << 20,
            // DNS, mDNS, LLMNR.
            dns_ports: [53, 5353, 5355, 0, 0, 0, 0, 0],
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
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("cannot attach {name}")]
    Attach { name: String, source: io::Error },
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

/// Everything loaded. Dropping it detaches what is not pinned.
pub struct Loaded {
    /// Owns the programs; `None` once detached.
    ebpf: Option<Ebpf>,
    links: Links,
    /// Chosen cgroups by path; of nested ones only the outermost is attached to.
    chosen: BTreeMap<PathBuf, u64>,
    pub tables: FlowTables,
    /// Names these maps, for as long as the machine is up.
    pub instance: u64,
    /// What was pinned before.
    pub found: Found,
    /// Taken by the one task that reads it.
    pub ring: Option<RingBuf<MapData>>,
    pub processes: Option<RingBuf<MapData>>,
    pub wire: Option<RingBuf<MapData>>,
    pub quotas: OwnedFd,
    pub losses: LossMap,
    /// The set of what left in place of what was asked for.
    pub translations: OwnedFd,
    /// Stream connections that are followed.
    pub connections: OwnedFd,
    /// The set of those who have answered datagrams.
    pub answers: OwnedFd,
    /// What Unix sockets are called that lead out.
    pub unix_names: OwnedFd,
    pub foreign: Foreign,
    /// For what each thread works, and the state of that map. Taken by whoever writes them.
    pub contexts: Option<(OwnedFd, OwnedFd)>,
    /// The set of cgroups to which programs are attached.
    choice: OwnedFd,
    reads_verdict: bool,
    /// The probe's own diagnostics, when they were asked for.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// What is attached, by name.
    pub hooks: Vec<String>,
    /// What this kernel refused and recording goes on without, and what is therefore not seen.
    missing: BTreeMap<String, String>,
}

/// Loads every program. Nothing is attached yet but what `pins` have, which runs the new programs
/// from now on.
///
/// `verbose` turns the probe's own diagnostics on.
///
/// # Errors
/// The kernel refuses a program or a map, or the object was built from other sources.
pub fn load(sizes: Sizes, verbose: bool, pins: Option<&Pins>) -> Result<Loaded, LoadError> {
    let offsets = offsets::find(Path::new(offsets::VMLINUX_BTF))?;
    let found = pins.map_or(Ok(Found::Nothing), |pins| prepare(pins, sizes))?;
    let adopted = pins.filter(|_| matches!(found, Found::Adopted));
    let reads_verdict = reads_verdict();
    let settings = Settings {
        sizes,
        offsets,
        verbose,
        reads_verdict,
    };
    let mut ebpf = load_object(&settings, adopted)?;
    load_programs(&mut ebpf)?;
    let mut missing = load_others(&mut ebpf);
    if !settings.offsets.reads_unix() {
        missing.insert("unix".to_owned(), UNIX_UNSEEN.to_owned());
    }
    // Reading the kernel's type information takes megabytes that are not needed again.
    sys::give_memory_back();
    let log = verbose
        .then(|| EbpfLogger::init(&mut ebpf))
        .and_then(|log| {
            log.inspect_err(|error| tracing::warn!("no diagnostics from the probe: {error}"))
                .ok()
        });
    let fresh = pins.filter(|_| adopted.is_none());
    if let Some(pins) = fresh {
        pin_maps(&ebpf, pins, sizes)?;
    }
    let (tables, instance, quotas) =
        open_tables(&mut ebpf, adopted.is_some()).map_err(|source| LoadError::Table {
            entries: sizes.table_entries,
            source,
        })?;
    if let Some(pins) = fresh {
        // From here on they can be adopted.
        fs::rename(pins.new_maps(), pins.maps()).map_err(super::pin::at(&pins.maps()))?;
    }
    let links = pins.map_or(Ok(Links::default()), |pins| {
        Links::pinned(&pins.links()).map_err(super::pin::at(&pins.links()))
    })?;
    let open = |ebpf: &mut Ebpf, name| owned_fd(take(ebpf, name)?).map_err(failed(name));
    let translations = open(&mut ebpf, "TRANSLATIONS")?;
    let answers = open(&mut ebpf, "ANSWERS")?;
    let connections = open(&mut ebpf, "CONNECTIONS")?;
    let unix_names = open(&mut ebpf, "UNIX_NAMES")?;
    let losses = LossMap::new(open(&mut ebpf, "LOSSES")?).map_err(failed("LOSSES"))?;
    let flag = open(&mut ebpf, "FIRST_ATTACHED")?;
    let choice = open(&mut ebpf, "CHOSEN")?;
    let threads = open(&mut ebpf, "CONTEXTS")?;
    let contexts = Some((threads, open(&mut ebpf, "CONTEXT_STATE")?));
    let foreign = Foreign::new(load_first(&mut ebpf), flag, own_tags(&ebpf));
    let mut loaded = Loaded {
        translations,
        answers,
        connections,
        unix_names,
        foreign,
        contexts,
        choice,
        reads_verdict,
        links,
        chosen: BTreeMap::new(),
        tables,
        instance,
        found,
        ring: Some(typed(&mut ebpf, "EVENTS")?),
        processes: Some(typed(&mut ebpf, "PROCESSES")?),
        wire: Some(typed(&mut ebpf, "WIRE")?),
        quotas,
        losses,
        log,
        hooks: Vec::new(),
        missing,
        ebpf: Some(ebpf),
    };
    loaded.update_links()?;
    Ok(loaded)
}

/// Looks at what is pinned, and removes what cannot be used any more.
fn prepare(pins: &Pins, sizes: Sizes) -> Result<Found, LoadError> {
    let wanted = adopt::wanted(OBJECT, &map_sizes(sizes)).map_err(super::pin::at(&pins.maps()))?;
    let others = pins.remove_other_versions()?;
    match adopt::fits(&pins.maps(), &wanted) {
        Some(Ok(())) => Ok(Found::Adopted),
        Some(Err(why)) => {
            let remains = adopt::drain(pins);
            pins.clear()?;
            Ok(Found::Replaced(Replaced { why, remains }))
        }
        None => {
            // Maps that were never made whole, with nothing attached.
            pins.clear()?;
            if others.is_empty() {
                return Ok(Found::Nothing);
            }
            let why = format!("they are of another version ({})", others.join(", "));
            let remains = None;
            Ok(Found::Replaced(Replaced { why, remains }))
        }
    }
}

/// Pins every map beside its final place.
fn pin_maps(ebpf: &Ebpf, pins: &Pins, sizes: Sizes) -> Result<(), LoadError> {
    let directory = pins.new_maps();
    let failed = || super::pin::at(&directory);
    fs::create_dir_all(&directory).map_err(failed())?;
    let wanted = adopt::wanted(OBJECT, &map_sizes(sizes)).map_err(failed())?;
    for (name, _) in wanted {
        let map = ebpf
            .map(&name)
            .ok_or(LoadError::Missing("a map that it names"))?;
        map.pin(directory.join(&name))
            .map_err(|error| failed()(io::Error::other(error)))?;
    }
    Ok(())
}

/// The flow tables, the number that names them, and the table of quotas.
fn open_tables(ebpf: &mut Ebpf, adopted: bool) -> io::Result<(FlowTables, u64, OwnedFd)> {
    let mut open = |name| {
        let map = take(ebpf, name).map_err(io::Error::other)?;
        owned_fd(map)
    };
    let (outer, state) = (open("FLOWS")?, open("STATE")?);
    let pair = [open("FLOWS_A")?, open("FLOWS_B")?];
    let quotas = open("QUOTAS")?;
    let instance = adopt::instance(objects::map_info(outer.as_fd())?.0);
    if adopted {
        return Ok((FlowTables::adopt(outer, state, pair)?, instance, quotas));
    }
    let tables = FlowTables::install(outer, state, pair)?;
    // The bucket that cgroups share when the table of quotas is full.
    let shared = tracer_common::limits::CgroupQuota::default();
    sys::update(quotas.as_fd(), &0_u64, &shared)?;
    Ok((tables, instance, quotas))
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> LoadError {
    let name = name.to_owned();
    move |source| LoadError::Attach { name, source }
}

/// Sizes of maps that are settings. Rings and hashes alike: an adopted map must have the same.
fn map_sizes(sizes: Sizes) -> [(&'static str, u32); 5] {
    [
        ("EVENTS", sizes.ring_bytes),
        ("PROCESSES", sizes.process_ring_bytes),
        ("WIRE", sizes.wire_ring_bytes),
        ("FLOWS_A", sizes.table_entries),
        ("FLOWS_B", sizes.table_entries),
    ]
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

/// What programs are told before they are loaded.
struct Settings {
    sizes: Sizes,
    offsets: offsets::Found,
    verbose: bool,
    reads_verdict: bool,
}

fn load_object(settings: &Settings, adopted: Option<&Pins>) -> Result<Ebpf, LoadError> {
    let sizes = settings.sizes;
    let words: [u32; 8] = bytemuck::cast(settings.offsets.offsets);
    let process_words: [u32; ProcessOffsets::WORDS] = bytemuck::cast(settings.offsets.processes);
    let socket_words: [u32; SocketOffsets::WORDS] = bytemuck::cast(settings.offsets.sockets);
    let unix_words: [u32; UnixOffsets::WORDS] = bytemuck::cast(settings.offsets.unix);
    let wake_bytes = u64::from(sizes.process_ring_bytes / 4);
    let wire_wake_bytes = u64::from(sizes.wire_ring_bytes / 4);
    let dns_ports = sizes.dns_ports.map(u32::from);
    let quota = u64::from(sizes.cgroup_quota);
    let reads_verdict = u64::from(settings.reads_verdict);
    let level: u8 = if settings.verbose { u8::MAX } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .override_global("OFFSETS", words.as_slice(), true)
        .override_global("PROCESS_OFFSETS", process_words.as_slice(), true)
        .override_global("SOCKET_OFFSETS", socket_words.as_slice(), true)
        .override_global("UNIX_OFFSETS", unix_words.as_slice(), true)
        .override_global("PROCESS_WAKE_BYTES", &wake_bytes, true)
        .override_global("WIRE_WAKE_BYTES", &wire_wake_bytes, true)
        .override_global("SERVED_PORTS", dns_ports.as_slice(), true)
        .override_global("CGROUP_QUOTA", &quota, true)
        .override_global("READ_VERDICT", &reads_verdict, true)
        .override_global(aya_log::LEVEL, &level, false)
        // Why a program was refused, without every step to there: on what an older verifier gives
        // up on, that takes minutes.
        .verifier_log_level(VerifierLogLevel::STATS);
    for (name, entries) in map_sizes(sizes) {
        loader.map_max_entries(name, entries);
    }
    let pinned = match adopted {
        Some(pins) => adopt::wanted(OBJECT, &[]).map_err(super::pin::at(&pins.maps()))?,
        None => Vec::new(),
    };
    for (name, _) in &pinned {
        if let Some(pins) = adopted {
            loader.map_pin_path(name, pins.maps().join(name));
        }
    }
    Ok(loader.load(OBJECT)?)
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

/// A verifier that refuses one of these costs only what that one sees. What is then not seen, by
/// program. Before the maps are taken: programs are bound to the object's own descriptors of them.
fn load_others(ebpf: &mut Ebpf) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::new();
    let types = Btf::from_sys_fs();
    let others = WIRE_HOOKS.into_iter().chain(WAY_HOOKS);
    let tracepoints = CONNECTION_HOOKS.into_iter().chain(PROCESS_HOOKS);
    for (name, unseen) in others.chain(tracepoints) {
        if let Err(error) = load_one(ebpf, name, types.as_ref().ok()) {
            tracing::warn!("not seen: {unseen}: {error}");
            missing.insert(name.to_owned(), unseen.to_owned());
        }
    }
    missing
}

fn load_one(ebpf: &mut Ebpf, name: &'static str, types: Option<&Btf>) -> Result<(), LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a list of thirty kinds tells nothing"
    )]
    let loaded = match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupDevice(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::Iter(program) => {
            program.load("udp", types.ok_or(LoadError::Missing("type information"))?)
        }
        Program::BtfTracePoint(program) => {
            program.load(name, types.ok_or(LoadError::Missing("type information"))?)
        }
        _ => return Err(LoadError::Missing(name)),
    };
    loaded.map_err(refused(name))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
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
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data) => data.fd().as_fd().try_clone_to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever builds it elsewhere gets the same object, and nobody learns where this one was built.
    #[test]
    fn the_object_names_no_folder_of_the_machine_that_built_it() {
        let project = env!("CARGO_MANIFEST_DIR");
        let home = option_env!("HOME").unwrap_or(project);
        for place in [project, home].map(str::as_bytes) {
            let named = memchr::memmem::find(OBJECT, place);
            assert_eq!(named, None, "{}", place.escape_ascii());
        }
    }
}
