//! What program a process runs: its command line, out of its own memory, and the paths of its
//! executable and its working directory, out of the kernel's directory cache.

use core::arch::asm;

use aya_ebpf::helpers::{
    bpf_get_current_comm,
    generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
};
use tracer_common::{
    event::Header,
    offsets::ProcessOffsets,
    process::{ARGV_BYTES, COMPONENT_BYTES, Executed, PATH_BYTES, exec},
};

use crate::{
    emit,
    maps::{SCRATCH, offsets, process_offsets},
    process::{field, kin},
};

/// Components and mount points of a path that are looked at.
const STEPS: usize = 32;

/// Both paths end below this.
const PATHS: usize = 4096;
const _: () = assert!(2 * (PATH_BYTES + COMPONENT_BYTES) < PATHS);

/// An event with room for its bytes, and the state of putting it together.
///
/// That state is in memory, not in registers: of what it has read from memory the verifier
/// remembers nothing, so that it looks at one round of the loop instead of every way through all
/// of them.
#[repr(C)]
pub(crate) struct Scratch {
    event: Executed,
    bytes: [u8; PATHS + ARGV_BYTES],
    end: usize,
    flags: u32,
    reserved: u32,
}

/// More than any event takes, and less than [`Scratch`].
const LENGTH_MASK: usize = 8191;
const _: () =
    assert!(size_of::<Executed>() + 2 * (PATH_BYTES + COMPONENT_BYTES) + ARGV_BYTES < LENGTH_MASK);
const _: () = assert!(LENGTH_MASK < size_of::<Scratch>());

/// Sends what the running task has become.
#[inline(always)]
pub(crate) fn tell(task: u64, at_ns: u64, header: Header) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let more = process_offsets();
    let mm: u64 = field(task, more.task_mm);
    let file: u64 = field(mm, more.mm_exe_file);
    let fs: u64 = field(task, more.task_fs);
    let scratch = Building(scratch);
    scratch.set_end(0);
    scratch.set_flags(0);
    append_path(&more, &scratch, at(file, more.file_path), EXE);
    let exe_end = scratch.end();
    append_path(&more, &scratch, at(fs, more.fs_pwd), CWD);
    let cwd_end = scratch.end();
    let argv_len = append_argv(&more, &scratch, mm);
    let event = Executed {
        header,
        at_ns,
        kin: kin(task, &offsets(), &more),
        comm: bpf_get_current_comm().unwrap_or_default(),
        flags: scratch.flags(),
        exe_len: exe_end as u32,
        cwd_len: cwd_end.wrapping_sub(exe_end) as u32,
        argv_len: argv_len as u32,
    };
    let length = mask::<LENGTH_MASK>(size_of::<Executed>() + cwd_end + argv_len);
    // SAFETY: the slot is this CPU's, and `length` is less than it has.
    unsafe {
        (*scratch.0).event = event;
        emit::process_bytes(scratch.0.cast(), length as u64);
    }
}

/// Which path it is, for [`Executed::flags`].
struct Which {
    cut: u32,
    unlinked: u32,
}

const EXE: Which = Which {
    cut: exec::EXE_CUT,
    unlinked: exec::EXE_UNLINKED,
};
const CWD: Which = Which {
    cut: exec::CWD_CUT,
    unlinked: exec::CWD_UNLINKED,
};

/// This CPU's slot while an event is put together in it: the program that does is not entered
/// again on the same CPU while it runs.
struct Building(*mut Scratch);

impl Building {
    /// Where the next bytes go, less than [`PATHS`].
    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the pointer is a map value.
        let end = unsafe { core::ptr::read_volatile(&raw const (*self.0).end) };
        mask::<{ PATHS - 1 }>(end)
    }

    #[inline(always)]
    fn set_end(&self, end: usize) {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*self.0).end, end) };
    }

    #[inline(always)]
    fn flags(&self) -> u32 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(&raw const (*self.0).flags) }
    }

    #[inline(always)]
    fn set_flags(&self, flags: u32) {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*self.0).flags, flags) };
    }

    /// Room for a component, or for the arguments.
    #[inline(always)]
    fn place(&self, end: usize) -> *mut core::ffi::c_void {
        // SAFETY: `end` is less than PATHS, beyond which there are ARGV_BYTES left.
        unsafe { (&raw mut (*self.0).bytes).cast::<u8>().add(end).cast() }
    }
}

/// Appends the new image's arguments; returns their length.
#[inline(always)]
fn append_argv(more: &ProcessOffsets, scratch: &Building, mm: u64) -> usize {
    let start: u64 = field(mm, more.mm_arg_start);
    let end: u64 = field(mm, more.mm_arg_end);
    let all = end.wrapping_sub(start) as usize;
    if start == 0 || all == 0 {
        return 0;
    }
    let wanted = if all > ARGV_BYTES { ARGV_BYTES } else { all };
    // One to ARGV_BYTES, in a way that the verifier can follow.
    let length = mask::<{ ARGV_BYTES - 1 }>(wanted - 1) + 1;
    let to = scratch.place(scratch.end());
    // SAFETY: there is room for ARGV_BYTES; the helper checks the source.
    let failed = unsafe { bpf_probe_read_user(to, length as u32, start as *const _) } != 0;
    if failed || all > ARGV_BYTES {
        scratch.set_flags(scratch.flags() | exec::ARGV_CUT);
    }
    if failed { 0 } else { length }
}

/// Appends the components of the `struct path` at `path`, from the last to the first, up to the
/// root of the mount namespace: through mount points, but not ending at the process's own root,
/// which it can choose.
#[inline(always)]
fn append_path(more: &ProcessOffsets, scratch: &Building, path: u64, which: Which) {
    let mut dentry: u64 = field(path, more.path_dentry);
    let mut mounted: u64 = field(path, more.path_mnt);
    // What a file system begins with is in no hash either, and has a name all the same.
    let is_root = dentry == field(mounted, more.vfsmount_root);
    let hash = at(dentry, more.dentry_hash);
    if !is_root && field::<u64>(hash, more.hash_pprev) == 0 {
        scratch.set_flags(scratch.flags() | which.unlinked);
    }
    let limit = scratch.end() + PATH_BYTES;
    for _ in 0..STEPS {
        if dentry == field(mounted, more.vfsmount_root) {
            let mount = mounted.wrapping_sub(u64::from(more.mount_mnt));
            let above: u64 = field(mount, more.mount_parent);
            if above == mount {
                return;
            }
            dentry = field(mount, more.mount_mountpoint);
            mounted = at(above, more.mount_mnt);
            continue;
        }
        let name = at(dentry, more.dentry_name);
        append_name(scratch, field(name, more.qstr_name));
        let parent: u64 = field(dentry, more.dentry_parent);
        // Below no root: a file of memory, a pipe.
        if parent == dentry {
            return;
        }
        if scratch.end() > limit {
            break;
        }
        dentry = parent;
    }
    scratch.set_flags(scratch.flags() | which.cut);
}

#[inline(always)]
fn append_name(scratch: &Building, name: u64) {
    let end = scratch.end();
    let to = scratch.place(end);
    // SAFETY: there is room for a component; the helper checks the source.
    let copied = unsafe { bpf_probe_read_kernel_str(to, COMPONENT_BYTES as u32, name as *const _) };
    // Nothing, if it could not be read: without a branch, which would double the verifier's paths.
    scratch.set_end(end + (copied & !(copied >> 63)) as usize);
}

/// The address of a member of the structure at `base`.
#[inline(always)]
fn at(base: u64, offset: u32) -> u64 {
    base.wrapping_add(u64::from(offset))
}

/// `value & MASK`, where the compiler knows that it changes nothing and the verifier does not.
#[inline(always)]
fn mask<const MASK: usize>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{0} &= {mask}", inout(reg) value, mask = const MASK) };
    value
}
