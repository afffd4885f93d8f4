//! Every map, and the read-only settings that userspace writes before the programs are loaded.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use tracer_common::{
    context::{Context, ContextState, MAX_CONTEXTS},
    event::NewFlow,
    flow::{ConnectedDatagram, FlowKey, FlowValue},
    limits::{CgroupQuota, State, loss},
    offsets::{ABSENT, Offsets, ProcessOffsets, SocketOffsets, UnixOffsets},
    outcome::{CONNECTION_SETS, ConnectionSet},
    process::Forked,
    socket::{
        Answer, Bound, MAX_ANSWERS, MAX_CHOSEN, MAX_FIRST_SPEAKERS, MAX_UNIX_NAMES, Maker,
        NOTED_LATELY, Peer, UnixName,
    },
    translation::{Asked, FirstAsked, MAX_TRANSLATIONS, Translation},
    wire::{DNS_PORTS, MAX_UNFINISHED, Piece},
};

use crate::image::Scratch;

/// The flow table: one slot that holds the hash map being written to.
///
/// Userspace installs another map to read and empty the old one: looking up and deleting in a
/// map that programs still write to loses counts. The inner definition is only a template.
#[btf_map]
pub(crate) static FLOWS: ArrayOfMaps<FlowTable, 1> = ArrayOfMaps::new();

pub(crate) type FlowTable = HashMap<FlowKey, FlowValue, 1>;

/// The two tables that take turns. Their size is a setting.
#[btf_map]
pub(crate) static FLOWS_A: FlowTable = FlowTable::new();
#[btf_map]
pub(crate) static FLOWS_B: FlowTable = FlowTable::new();

/// Each cgroup's share of the flow table.
#[btf_map]
pub(crate) static QUOTAS: HashMap<u64, CgroupQuota, 16384, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Connected datagram sockets that have not sent yet. Freed with the socket.
#[btf_map]
pub(crate) static CONNECTED: SkStorage<ConnectedDatagram> = SkStorage::new();

/// Stream connections from connect() until they are closed. Those of which nothing is ever heard
/// (no route) give way to newer ones.
#[btf_map]
pub(crate) static CONNECTIONS: Array<ConnectionSet, CONNECTION_SETS> = Array::new();

/// Who made sockets that no address hook sees. Freed with the socket.
#[btf_map]
pub(crate) static MAKERS: SkStorage<Maker> = SkStorage::new();

/// UDP sockets that were bound by their owner. Freed with the socket.
#[btf_map]
pub(crate) static BOUND: SkStorage<Bound> = SkStorage::new();

/// Who spoke first, on bound sockets: one of `tracer_common::socket::first`.
#[btf_map]
pub(crate) static FIRST_SPEAKERS: LruHashMap<Peer, u64, MAX_FIRST_SPEAKERS> = LruHashMap::new();

/// How many were noted there, ever.
#[btf_map]
pub(crate) static SPEAKERS_NOTED: Array<u64, 1> = Array::new();

/// From where datagrams have come back, since userspace last took them out. A set.
#[btf_map]
pub(crate) static ANSWERS: HashMap<Answer, u64, MAX_ANSWERS, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// What was noted there a moment ago, in a word each: who answers again costs no lookup in a hash.
#[btf_map]
pub(crate) static LATELY: Array<u64, NOTED_LATELY> = Array::new();

/// For what each thread works, by its id in the initial pid namespace.
#[btf_map]
pub(crate) static CONTEXTS: HashMap<u32, Context, MAX_CONTEXTS, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Whether any does. Userspace writes it.
#[btf_map]
pub(crate) static CONTEXT_STATE: Array<ContextState, 1> = Array::new();

/// The cgroups to which programs are attached, for those that are attached to the machine. A set;
/// userspace writes it.
#[btf_map]
pub(crate) static CHOSEN: HashMap<u64, u64, MAX_CHOSEN, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// What Unix sockets are called that lead out, by the address of the kernel's name for them.
#[btf_map]
pub(crate) static UNIX_NAMES: LruHashMap<u64, UnixName, MAX_UNIX_NAMES> = LruHashMap::new();

/// Where such a name is put together: the stack has no room for it.
#[btf_map]
pub(crate) static UNIX_NAME: PerCpuArray<UnixName, 1> = PerCpuArray::new();

/// News for userspace. The size is a setting.
#[btf_map]
pub(crate) static EVENTS: RingBuf<NewFlow, 4096> = RingBuf::new();

/// What processes do, in a ring of its own: a fork bomb must not crowd out news of flows. The size
/// is a setting.
#[btf_map]
pub(crate) static PROCESSES: RingBuf<Forked, 4096> = RingBuf::new();

/// When the reader of [`PROCESSES`] was last woken, CLOCK_MONOTONIC. Apart from [`STATE`], which
/// userspace overwrites with each sweep.
#[btf_map]
pub(crate) static PROCESS_WAKE: Array<u64, 1> = Array::new();

/// What is said on the wire, in a ring of its own: who says much crowds out names, not flows. The
/// size is a setting.
#[btf_map]
pub(crate) static WIRE: RingBuf<Piece, 4096> = RingBuf::new();

/// When the reader of [`WIRE`] was last woken, CLOCK_MONOTONIC.
#[btf_map]
pub(crate) static WIRE_WAKE: Array<u64, 1> = Array::new();

/// Connections, by socket cookie, that did not say everything in their first segment, and the
/// offset up to which they are listened to.
#[btf_map]
pub(crate) static UNFINISHED: LruHashMap<u64, u64, MAX_UNFINISHED> = LruHashMap::new();

/// Where an exec's event is put together: its length is known last.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Counters of everything that was lost, by [`loss`].
#[btf_map]
pub(crate) static LOSSES: PerCpuArray<u64, { loss::COUNT as usize }> = PerCpuArray::new();

#[btf_map]
pub(crate) static STATE: Array<State, 1> = Array::new();

/// What left in place of what was asked for, since userspace last took them out. A set.
#[btf_map]
pub(crate) static TRANSLATIONS: HashMap<
    Translation,
    u64,
    MAX_TRANSLATIONS,
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// What this CPU was asked for a moment ago.
#[btf_map]
pub(crate) static ASKED: PerCpuArray<Asked, 1> = PerCpuArray::new();

/// The same, from before other programs could rewrite it; written by the `first_` programs.
#[btf_map]
pub(crate) static FIRST_ASKED: PerCpuArray<FirstAsked, 1> = PerCpuArray::new();

/// Not 0 while the `first_` programs are attached. Userspace writes it.
#[btf_map]
pub(crate) static FIRST_ATTACHED: Array<u64, 1> = Array::new();

/// Not 0 where the kernel lets address hooks read what programs before them decided.
#[unsafe(no_mangle)]
static READ_VERDICT: Global<u64> = Global::new(0);

/// How many keys one cgroup may have in the flow table.
#[unsafe(no_mangle)]
static CGROUP_QUOTA: Global<u64> = Global::new(u64::MAX);

/// Where the running kernel keeps its fields.
#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(Offsets {
    task_group_leader: ABSENT,
    task_start_boottime: ABSENT,
    task_real_parent: ABSENT,
    task_tgid: ABSENT,
    cgroup_kn: ABSENT,
    cgroup_root: ABSENT,
    kernfs_node_id: ABSENT,
    cgroup_root_hierarchy_id: ABSENT,
});

/// The same for following processes.
#[unsafe(no_mangle)]
static PROCESS_OFFSETS: Global<[u32; ProcessOffsets::WORDS]> =
    Global::new([ABSENT; ProcessOffsets::WORDS]);

/// The same for following connections.
#[unsafe(no_mangle)]
static SOCKET_OFFSETS: Global<[u32; SocketOffsets::WORDS]> =
    Global::new([ABSENT; SocketOffsets::WORDS]);

/// The same for Unix sockets.
#[unsafe(no_mangle)]
static UNIX_OFFSETS: Global<[u32; UnixOffsets::WORDS]> = Global::new([ABSENT; UnixOffsets::WORDS]);

/// A quarter of the ring of processes, in bytes: from here on its reader is woken.
#[unsafe(no_mangle)]
static PROCESS_WAKE_BYTES: Global<u64> = Global::new(0);

/// The same of the ring of the wire.
#[unsafe(no_mangle)]
static WIRE_WAKE_BYTES: Global<u64> = Global::new(0);

/// Ports where DNS is served, host byte order; 0 is none.
#[unsafe(no_mangle)]
static SERVED_PORTS: Global<[u32; DNS_PORTS]> = Global::new([0; DNS_PORTS]);

#[inline(always)]
pub(crate) fn wire_wake_bytes() -> u64 {
    WIRE_WAKE_BYTES.load()
}

#[inline(always)]
pub(crate) fn dns_ports() -> [u32; DNS_PORTS] {
    SERVED_PORTS.load()
}

#[inline(always)]
pub(crate) fn process_wake_bytes() -> u64 {
    PROCESS_WAKE_BYTES.load()
}

#[inline(always)]
pub(crate) fn process_offsets() -> ProcessOffsets {
    // SAFETY: the struct is as many plain words, and userspace writes it as such.
    unsafe { core::mem::transmute(PROCESS_OFFSETS.load()) }
}

/// One of [`SocketOffsets`], which begins at this byte of them. Read alone: the verifier then knows
/// its value, and allows a plain load from there.
#[inline(always)]
pub(crate) fn socket_offset(at: usize) -> u32 {
    let offsets = (&raw const SOCKET_OFFSETS).cast::<u32>();
    // SAFETY: `at` is a field's offset; the volatile read keeps what userspace has written.
    unsafe { offsets.byte_add(at).read_volatile() }
}

/// The same of [`Offsets`].
#[inline(always)]
pub(crate) fn offset(at: usize) -> u32 {
    let offsets = (&raw const OFFSETS).cast::<u32>();
    // SAFETY: as above.
    unsafe { offsets.byte_add(at).read_volatile() }
}

#[inline(always)]
pub(crate) fn unix_offsets() -> UnixOffsets {
    // SAFETY: as above.
    unsafe { core::mem::transmute(UNIX_OFFSETS.load()) }
}

#[inline(always)]
pub(crate) fn cgroup_quota() -> u64 {
    CGROUP_QUOTA.load()
}

#[inline(always)]
pub(crate) fn reads_verdict() -> bool {
    READ_VERDICT.load() != 0
}

#[inline(always)]
pub(crate) fn offsets() -> Offsets {
    OFFSETS.load()
}

/// Which flow table is being written to.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    match STATE.get(0) {
        Some(state) => state.generation,
        None => 0,
    }
}

/// Adds to one of the [`loss`] counters.
#[inline(always)]
pub(crate) fn count_loss(reason: u32, lost: u64) {
    if let Some(counter) = LOSSES.get_ptr_mut(reason) {
        // SAFETY: the slot belongs to this CPU, and programs are not preempted by one another
        // on the same slot except from an interrupt, which can cost the counter a count, not its
        // validity.
        unsafe { *counter += lost };
    }
}

/// What is stored of a full socket, if anything is.
#[expect(
    clippy::mut_from_ref,
    reason = "the map is a handle: what is lent is the socket's own storage"
)]
#[inline(always)]
pub(crate) fn stored<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock) -> Option<&'static mut T> {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: a null value and no flags only look up; the verifier checks `sk` and the result.
    unsafe {
        bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0)
            .cast::<T>()
            .as_mut()
    }
}

/// Stores something with a socket that has nothing there; false if there is no memory.
#[inline(always)]
pub(crate) fn store<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock, value: &mut T) -> bool {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    let value = core::ptr::from_mut(value).cast();
    // SAFETY: the value is as long as the map's; the verifier checks `sk`.
    let stored = unsafe {
        bpf_sk_storage_get(
            map,
            sk.cast(),
            value,
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    !stored.is_null()
}
