//! The system calls that aya does not offer: batches, maps in maps, cookies.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd};
use bytemuck::{Pod, Zeroable};

/// Sets slot 0 of an array of maps. Returns when no running program can still be using the map
/// that was there (the kernel waits for them).
///
/// # Errors
/// What `bpf(BPF_MAP_UPDATE_ELEM)` says: `EINVAL` if the inner map has another shape.
pub fn install(outer: BorrowedFd<'_>, inner: BorrowedFd<'_>) -> io::Result<()> {
    update(outer, &0_u32, &inner.as_raw_fd())
}

/// Sets `key` to `value`.
///
/// # Errors
/// What `bpf(BPF_MAP_UPDATE_ELEM)` says.
pub fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = zeroed_attr();
    // SAFETY: plain integers of the variant that BPF_MAP_UPDATE_ELEM reads; the pointers outlive
    // the call.
    unsafe {
        let element = &mut attr.__bindgen_anon_2;
        element.map_fd = map.as_raw_fd() as u32;
        element.key = std::ptr::from_ref(key) as u64;
        element.__bindgen_anon_1.value = std::ptr::from_ref(value) as u64;
    }
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Removes `key`; an absent key is no error.
///
/// # Errors
/// What `bpf(BPF_MAP_DELETE_ELEM)` says.
pub fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attr = zeroed_attr();
    // SAFETY: as for `update`.
    unsafe {
        let element = &mut attr.__bindgen_anon_2;
        element.map_fd = map.as_raw_fd() as u32;
        element.key = std::ptr::from_ref(key) as u64;
    }
    match bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// The value of `key`; `None` if it is not there.
///
/// # Errors
/// What `bpf(BPF_MAP_LOOKUP_ELEM)` says.
pub fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attr = zeroed_attr();
    // SAFETY: as for `update`; the kernel writes a value of the map's size, which is V's.
    unsafe {
        let element = &mut attr.__bindgen_anon_2;
        element.map_fd = map.as_raw_fd() as u32;
        element.key = std::ptr::from_ref(key) as u64;
        element.__bindgen_anon_1.value = std::ptr::from_mut(&mut value) as u64;
    }
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(|_| Some(value)),
    }
}

/// What a per-CPU array of u64 has at `index`, by CPU. `cpus`: as many as the kernel may have, which
/// is how many values it writes.
///
/// # Errors
/// What `bpf(BPF_MAP_LOOKUP_ELEM)` says.
pub fn per_cpu(map: BorrowedFd<'_>, index: u32, cpus: usize) -> io::Result<Vec<u64>> {
    let mut values = vec![0_u64; cpus];
    let mut attr = zeroed_attr();
    // SAFETY: as for `update`; the kernel writes a value for each CPU that it may have.
    unsafe {
        let element = &mut attr.__bindgen_anon_2;
        element.map_fd = map.as_raw_fd() as u32;
        element.key = std::ptr::from_ref(&index) as u64;
        element.__bindgen_anon_1.value = values.as_mut_ptr() as u64;
    }
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(values)
}

/// How a batch treats what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Leave it. May miss or repeat entries of a map that is being written to.
    Look,
    /// Take it out. Only exact on a map that nobody writes to.
    Take,
}

/// Reads a hash map from end to end, a batch at a time (Linux 5.6).
///
/// # Errors
/// What `bpf(BPF_MAP_LOOKUP_BATCH)` says; what was read before is in `each`'s hands.
pub fn read_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mode: Batch,
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    // A batch holds whole hash buckets; ENOSPC asks for a larger one.
    let mut room = 1024_usize;
    let mut position: Option<u64> = None;
    let mut keys = vec![K::zeroed(); room];
    let mut values = vec![V::zeroed(); room];
    loop {
        let mut next = 0_u64;
        let (count, end) = match one_batch(map, mode, position, &mut next, &mut keys, &mut values) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                keys.resize(room, K::zeroed());
                values.resize(room, V::zeroed());
                continue;
            }
            other => other?,
        };
        keys.iter()
            .zip(&values)
            .take(count)
            .for_each(|(key, value)| each(key, value));
        if end {
            return Ok(());
        }
        position = Some(next);
    }
}

/// Number of entries read, and whether the map's end was reached.
fn one_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mode: Batch,
    position: Option<u64>,
    next: &mut u64,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)> {
    let mut attr = zeroed_attr();
    attr.batch.in_batch = position
        .as_ref()
        .map_or(0, |at| std::ptr::from_ref(at) as u64);
    attr.batch.out_batch = std::ptr::from_mut(next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    attr.batch.map_fd = map.as_raw_fd() as u32;
    let command = match mode {
        Batch::Look => bpf_cmd::BPF_MAP_LOOKUP_BATCH,
        Batch::Take => bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    };
    let end = match bpf(command, &mut attr) {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has written how many entries it copied.
    let count = unsafe { attr.batch.count } as usize;
    Ok((count.min(keys.len()), end))
}

/// `BPF_F_PREORDER`: before the programs of inner cgroups. Linux 6.15.
const PREORDER: u32 = 1 << 6;

/// Attaches a program to a cgroup ahead of all others there and below, until the link is dropped.
///
/// # Errors
/// What `bpf(BPF_LINK_CREATE)` says: `EINVAL` from kernels that let no program go first.
pub fn attach_first(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    // Linux 6.17 orders the programs of one cgroup as well.
    link(program, cgroup, attach_type, PREORDER | BPF_F_BEFORE)
        .or_else(|_| link(program, cgroup, attach_type, PREORDER))
}

fn link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = cgroup.as_raw_fd() as u32;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    let fd = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel has just made the descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes an iterator's program ready to run.
///
/// # Errors
/// What `bpf(BPF_LINK_CREATE)` says.
pub fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    let fd = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: as for `link`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Runs it for each object there is in the calling thread's namespaces. Returns when it has.
///
/// # Errors
/// What `bpf(BPF_ITER_CREATE)` and reading from it say.
pub fn iterate(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    let fd = bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?;
    // SAFETY: as for `link`.
    let mut objects = unsafe { std::fs::File::from_raw_fd(fd as i32) };
    // The program writes nothing; reading is what makes it run.
    io::copy(&mut objects, &mut io::sink()).map(drop)
}

/// The cookie of this process's network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
/// No socket could be made, or the kernel does not know the option.
pub fn own_netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer has the length that is passed.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if failed == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts this thread, and those that it starts, before the machine's ordinary work: hooks are to be
/// on a container before its first process is ready, also while the engine keeps every core busy.
///
/// # Errors
/// `EACCES` without CAP_SYS_NICE.
pub fn go_first() -> io::Result<()> {
    /// Nice values end at -20; what must never wait (watchdogs, audio) keeps its place.
    const NICE: libc::c_int = -10;
    // SAFETY: no pointers.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Hands freed memory back to the system, where the allocator can.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no arguments that could be wrong; glibc locks its own arenas.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(super) fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of integers and arrays of integers; all zero is what the kernel expects of
    // fields that a command does not use.
    unsafe { mem::zeroed() }
}

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole, initialised bpf_attr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Reads one value that crossed the ABI; `None` if it is shorter than it should be.
#[must_use]
pub fn read_pod<T: Pod + Zeroable>(bytes: &[u8]) -> Option<T> {
    bytes
        .get(..size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

/// A descriptor that the kernel has just made for this process.
#[must_use]
pub fn owned(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: `accept4` has returned it, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The thread of that number in a pid namespace, and its process, by their numbers in our own
/// (`NS_GET_PID_FROM_PIDNS`, Linux 6.11).
///
/// # Errors
/// `ESRCH`: there is no such thread. `ENOTTY`: the kernel is older.
pub fn thread_in(pid_namespace: BorrowedFd<'_>, tid: u32) -> io::Result<(u32, u32)> {
    /// `_IOR(0xb7, 6, int)`, `_IOR(0xb7, 7, int)`
    const PID_FROM: libc::c_ulong = 0x8004_b706;
    const PROCESS_FROM: libc::c_ulong = 0x8004_b707;
    let ask = |request: libc::c_ulong| {
        // SAFETY: the argument is a number, not an address.
        let found = unsafe { libc::ioctl(pid_namespace.as_raw_fd(), request as _, tid) };
        u32::try_from(found).map_err(|_negative| io::Error::last_os_error())
    };
    Ok((ask(PID_FROM)?, ask(PROCESS_FROM)?))
}

/// Loads the smallest program there is: `r0 = 0; exit`.
///
/// # Errors
/// What `bpf(BPF_PROG_LOAD)` says.
#[cfg(test)]
pub fn may_load() -> io::Result<()> {
    let program = [0xb7_u64, 0x95];
    let mut attr = zeroed_attr();
    // SAFETY: the variant that BPF_PROG_LOAD reads; the pointers outlive the call.
    unsafe {
        let load = &mut attr.__bindgen_anon_3;
        load.prog_type = aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_SOCKET_FILTER as u32;
        load.insns = program.as_ptr() as u64;
        load.insn_cnt = 2;
        load.license = c"Apache-2.0".as_ptr() as u64;
    }
    let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    drop(owned(fd as i32));
    Ok(())
}
