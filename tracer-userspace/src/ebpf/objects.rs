//! The system calls on maps and links as objects: pins, what an object is, making and updating
//! links. aya makes no link that can be updated in place, and checks no size of a pinned map.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info};

use super::sys::{bpf, zeroed_attr};

/// What makes a pinned map fit an object, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
}

/// Gives an object a name in a bpffs, by which it outlives this process.
///
/// # Errors
/// What `bpf(BPF_OBJ_PIN)` says: `EEXIST` if the name is taken, `EPERM` if it contains a dot.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens what is pinned at `path`.
///
/// # Errors
/// What `bpf(BPF_OBJ_GET)` says.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    descriptor(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// A map's id, unique until the machine goes down, and its shape.
///
/// # Errors
/// What `bpf(BPF_OBJ_GET_INFO_BY_FD)` says.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<(u32, Shape)> {
    // SAFETY: integers and arrays of integers only.
    let mut info: bpf_map_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is as long as is said.
    unsafe { get_info(map, &raw mut info)? };
    let shape = Shape {
        kind: info.type_,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
    };
    Ok((info.id, shape))
}

/// The id of the cgroup that a link is attached to; 0 once that is gone.
///
/// # Errors
/// What `bpf(BPF_OBJ_GET_INFO_BY_FD)` says.
pub fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: integers only, in every variant of the union.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is as long as is said.
    unsafe { get_info(link, &raw mut info)? };
    // SAFETY: integers only: another kind of link gives a meaningless number, not an invalid one.
    Ok(unsafe { info.__bindgen_anon_1.cgroup.cgroup_id })
}

/// Attaches a program to a cgroup, beside whatever else is attached there (Linux 5.7).
///
/// # Errors
/// What `bpf(BPF_LINK_CREATE)` says.
pub fn attach_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    kind: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = cgroup.as_raw_fd() as u32;
    attr.link_create.attach_type = kind as u32;
    descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// How a program says to which tracepoint it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracepoint<'a> {
    /// By its name: arguments are plain words.
    Raw(&'a str),
    /// It was loaded for one: the verifier knows the arguments' types.
    Typed,
}

/// Attaches a program to a tracepoint.
///
/// # Errors
/// What `bpf(BPF_RAW_TRACEPOINT_OPEN)` says: `ENOENT` if there is none of that name.
pub fn attach_tracepoint(program: BorrowedFd<'_>, at: Tracepoint<'_>) -> io::Result<OwnedFd> {
    let name = match at {
        Tracepoint::Raw(name) => Some(CString::new(name)?),
        Tracepoint::Typed => None,
    };
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    descriptor(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// Puts another program into a cgroup link: at no moment is there none, or are there two.
///
/// # Errors
/// What `bpf(BPF_LINK_UPDATE)` says: `ENOLINK` if the cgroup is gone.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Bytes of a memory page, to which the kernel rounds rings up.
#[must_use]
pub fn page_bytes() -> u32 {
    // SAFETY: takes a number and returns one.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4096)
}

/// # Safety
/// `info` points to a whole structure of the kind that the object has.
unsafe fn get_info<T>(object: BorrowedFd<'_>, info: *mut T) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us (and closes it on exec, as all of bpf(2)'s).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
