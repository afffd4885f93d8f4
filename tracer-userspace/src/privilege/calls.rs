//! The system calls that the daemon needs (seccomp). Others fail as they do on a kernel that has not
//! got them, so that a library falls back; those that only somebody else's code would make end the
//! daemon, whose hooks go on counting.

use std::{collections::BTreeMap, env::consts::ARCH, fs};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

/// As on every machine that filters are written for.
type Number = i64;
type Rules = BTreeMap<Number, Vec<SeccompRule>>;

/// Allowed whatever the arguments are.
const NEEDED: &[Number] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Threads, signals and time.
    libc::SYS_futex,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Sockets, of the families that `socket` may be asked for.
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Itself and the machine.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_capget,
    // The kernel's tables, processes that speak of themselves, and further filters.
    libc::SYS_bpf,
    libc::SYS_pidfd_open,
    libc::SYS_seccomp,
];

/// What x86-64 has besides, for libraries that know nothing newer.
#[cfg(target_arch = "x86_64")]
const OLDER: &[Number] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_link,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[Number] = &[];

/// Nothing of this process makes them: whoever does ends it.
const DEADLY: &[Number] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_acct,
];

/// Of ioctl(2): about terminals, about blocking, and numbers of threads in a pid namespace.
const REQUESTS: [u64; 5] = [
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONREAD,
];
/// `NSIO`, as a mask and what it leaves.
const NAMESPACE_REQUESTS: (u64, u64) = (0xff00, 0xb700);

const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Of prctl(2).
const OPTIONS: [i32; 3] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_NO_NEW_PRIVS,
];

/// `BPF_PROG_LOAD`, `BPF_BTF_LOAD` (bpf.h).
const LOADING: [u64; 2] = [5, 18];

/// Lets every thread make the calls that are needed, and no others, for good.
///
/// # Errors
/// The kernel has no filters, or was built for a machine that none was written for.
pub(super) fn allow_needed() -> anyhow::Result<()> {
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    install(needed()?, absent, SeccompAction::Allow)?;
    let deadly = DEADLY.iter().map(|number| (*number, Vec::new()));
    let ends = SeccompAction::KillProcess;
    install(deadly.collect(), SeccompAction::Allow, ends)
}

/// From now on no thread can load a program into the kernel.
///
/// # Errors
/// As [`allow_needed`].
pub(super) fn load_no_more() -> anyhow::Result<()> {
    let commands = one_of(0, LOADING.into_iter())?;
    let rules = Rules::from([(libc::SYS_bpf, commands)]);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    install(rules, SeccompAction::Allow, refused)
}

/// Whether the kernel has filters that end a process.
#[must_use]
pub fn is_supported() -> bool {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    actions.is_ok_and(|actions| actions.contains("kill_process"))
}

fn install(rules: Rules, others: SeccompAction, these: SeccompAction) -> anyhow::Result<()> {
    let filter = SeccompFilter::new(rules, others, these, ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter_all_threads(&program)?)
}

fn needed() -> anyhow::Result<Rules> {
    let all = NEEDED.iter().chain(OLDER);
    let mut rules: Rules = all.map(|number| (*number, Vec::new())).collect();
    let mut some = |number: Number, allowed| rules.insert(number, allowed);
    some(libc::SYS_ioctl, requests()?);
    some(libc::SYS_socket, one_of(0, words(FAMILIES))?);
    some(libc::SYS_prctl, one_of(0, words(OPTIONS))?);
    // A thread, in the namespaces that it has. clone3(2) hides what it asks for: without it, the
    // C library uses this one.
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let mask = (libc::CLONE_THREAD | namespaces).cast_unsigned();
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    some(libc::SYS_clone, vec![masked(0, u64::from(mask), thread)?]);
    // Where connections are listed.
    some(libc::SYS_setns, one_of(1, words([libc::CLONE_NEWNET]))?);
    // Of this process, as abort(3) does.
    let own = u64::from(std::process::id());
    some(libc::SYS_tgkill, one_of(0, [own].into_iter())?);
    Ok(rules)
}

fn requests() -> anyhow::Result<Vec<SeccompRule>> {
    let mut allowed = one_of(1, REQUESTS.into_iter())?;
    let (mask, left) = NAMESPACE_REQUESTS;
    allowed.push(masked(1, mask, left)?);
    Ok(allowed)
}

fn words<const N: usize>(values: [i32; N]) -> impl Iterator<Item = u64> {
    values
        .into_iter()
        .map(|value| u64::from(value.cast_unsigned()))
}

/// The argument is one of these.
fn one_of(index: u8, values: impl Iterator<Item = u64>) -> anyhow::Result<Vec<SeccompRule>> {
    let rule = |value| {
        let is_it = SeccompCondition::new(index, Dword, SeccompCmpOp::Eq, value)?;
        Ok(SeccompRule::new(vec![is_it])?)
    };
    values.map(rule).collect()
}

/// What `mask` leaves of the argument is this.
fn masked(index: u8, mask: u64, left: u64) -> anyhow::Result<SeccompRule> {
    let is_it = SeccompCondition::new(index, Dword, SeccompCmpOp::MaskedEq(mask), left)?;
    Ok(SeccompRule::new(vec![is_it])?)
}
