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

/// An event with room for its bytes.
#[repr(C)]
pub(crate) struct Scratch {
    event: Executed,
    bytes: [u8; PATHS + ARGV_BYTES],
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
    // SAFETY: the slot belongs to this CPU, and this program is not entered again on it while it
    // runs.
    let Scratch { event, bytes } = unsafe { &mut *scratch };
    let exe = append_path(&more, bytes, 0, at(file, more.file_path));
    let cwd = append_path(&more, bytes, exe.end, at(fs, more.fs_pwd));
    let (argv_len, argv_cut) = append_argv(&more, bytes, cwd.end, mm);
    *event = Executed {
        header,
        at_ns,
        kin: kin(task, &offsets(), &more),
        comm: bpf_get_current_comm().unwrap_or_default(),
        flags: flag(argv_cut, exec::ARGV_CUT)
            | flag(exe.cut, exec::EXE_CUT)
            | flag(cwd.cut, exec::CWD_CUT)
            | flag(exe.unlinked, exec::EXE_UNLINKED)
            | flag(cwd.unlinked, exec::CWD_UNLINKED),
        exe_len: exe.end as u32,
        cwd_len: (cwd.end - exe.end) as u32,
        argv_len: argv_len as u32,
    };
    let length = mask::<LENGTH_MASK>(size_of::<Executed>() + cwd.end + argv_len);
    // SAFETY: the mask is less than the scratch.
    unsafe { emit::process_bytes(scratch.cast(), length as u64) };
}

/// Appends the new image's arguments; their length, and whether there were more.
#[inline(always)]
fn append_argv(
    more: &ProcessOffsets,
    bytes: &mut [u8; PATHS + ARGV_BYTES],
    from: usize,
    mm: u64,
) -> (usize, bool) {
    let start: u64 = field(mm, more.mm_arg_start);
    let end: u64 = field(mm, more.mm_arg_end);
    let all = end.wrapping_sub(start) as usize;
    if start == 0 || all == 0 {
        return (0, false);
    }
    let wanted = if all > ARGV_BYTES { ARGV_BYTES } else { all };
    // One to ARGV_BYTES, in a way that the verifier can follow.
    let length = mask::<{ ARGV_BYTES - 1 }>(wanted - 1) + 1;
    let from = mask::<{ PATHS - 1 }>(from);
    // SAFETY: from the last place within PATHS there are ARGV_BYTES left; the helper checks the
    // source.
    let failed = unsafe {
        let to = bytes.as_mut_ptr().add(from).cast();
        bpf_probe_read_user(to, length as u32, start as *const _)
    };
    if failed == 0 {
        (length, all > ARGV_BYTES)
    } else {
        (0, true)
    }
}

/// A path that was appended.
struct Appended {
    /// Where the next one begins.
    end: usize,
    cut: bool,
    unlinked: bool,
}

/// Appends the components of the `struct path` at `path`, from the last to the first, up to the
/// root of the mount namespace: through mount points, but not ending at the process's own root,
/// which it can choose.
#[inline(always)]
fn append_path(
    more: &ProcessOffsets,
    bytes: &mut [u8; PATHS + ARGV_BYTES],
    from: usize,
    path: u64,
) -> Appended {
    let mut dentry: u64 = field(path, more.path_dentry);
    let mut mounted: u64 = field(path, more.path_mnt);
    let mut end = from;
    // What a file system begins with is in no hash either, and has a name all the same.
    let is_root = dentry == field(mounted, more.vfsmount_root);
    let hash = at(dentry, more.dentry_hash);
    let unlinked = !is_root && field::<u64>(hash, more.hash_pprev) == 0;
    for _ in 0..STEPS {
        if dentry == field(mounted, more.vfsmount_root) {
            let mount = mounted.wrapping_sub(u64::from(more.mount_mnt));
            let above: u64 = field(mount, more.mount_parent);
            if above == mount {
                return Appended {
                    end,
                    cut: false,
                    unlinked,
                };
            }
            dentry = field(mount, more.mount_mountpoint);
            mounted = at(above, more.mount_mnt);
            continue;
        }
        let name = at(dentry, more.dentry_name);
        end = append_name(bytes, end, field(name, more.qstr_name));
        let parent: u64 = field(dentry, more.dentry_parent);
        // Below no root: a file of memory, a pipe.
        if parent == dentry {
            return Appended {
                end,
                cut: false,
                unlinked,
            };
        }
        if end > from + PATH_BYTES {
            break;
        }
        dentry = parent;
    }
    Appended {
        end,
        cut: true,
        unlinked,
    }
}

/// Where it ends with this component.
#[inline(always)]
fn append_name(bytes: &mut [u8; PATHS + ARGV_BYTES], end: usize, name: u64) -> usize {
    let end = mask::<{ PATHS - 1 }>(end);
    // SAFETY: from the last place within PATHS there is room for a component; the helper checks
    // the source.
    let copied = unsafe {
        let to = bytes.as_mut_ptr().add(end).cast();
        bpf_probe_read_kernel_str(to, COMPONENT_BYTES as u32, name as *const _)
    };
    // Nothing, if it could not be read: without a branch, which would double the verifier's paths.
    end + (copied & !(copied >> 63)) as usize
}

/// The address of a member of the structure at `base`.
#[inline(always)]
fn at(base: u64, offset: u32) -> u64 {
    base.wrapping_add(u64::from(offset))
}

#[inline(always)]
fn flag(is_set: bool, bit: u32) -> u32 {
    if is_set { bit } else { 0 }
}

/// `value & MASK`, where the compiler knows that it changes nothing and the verifier does not.
#[inline(always)]
fn mask<const MASK: usize>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{0} &= {mask}", inout(reg) value, mask = const MASK) };
    value
}
