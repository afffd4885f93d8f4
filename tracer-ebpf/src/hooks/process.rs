//! Processes as they come, turn into another program, and go.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::{
    event::Header,
    offsets::ABSENT,
    process::{Exited, Forked, kind},
};

use crate::{
    context, emit, image,
    maps::{offsets, process_offsets},
    process::{current_task, field, identity, kin},
};

const CLONE_THREAD: u64 = 0x0001_0000;

/// Raw tracepoint `task_newtask`, Linux 3.11 (the raw form 4.17): fork, vfork, clone and clone3,
/// when the child is complete and has not run. In the parent.
///
/// Costs about 0.4 µs a process, and next to nothing a thread: threads, io_uring's workers among
/// them, belong to a process that is known. While a tool is at work, a lookup more, and an insertion
/// for what it makes. Does not see what ran before it was attached.
#[raw_tracepoint(tracepoint = "task_newtask")]
fn task_newtask(ctx: RawTracePointContext) -> i32 {
    let child = ctx.arg::<*const c_void>(0) as u64;
    let flags: u64 = ctx.arg(1);
    context::inherit(child, flags & CLONE_THREAD != 0);
    if flags & CLONE_THREAD == 0 {
        let (offsets, more) = (offsets(), process_offsets());
        emit::process(Forked {
            header: header(kind::FORKED),
            at_ns: now(),
            kin: kin(child, &offsets, &more),
            maker: identity(current_task(), &offsets, &more),
        });
    }
    0
}

/// Raw tracepoint `sched_process_exec`, Linux 3.4: execve() has succeeded. The new program has not
/// run an instruction, so that nothing it does precedes this, and its arguments are in its memory
/// as the kernel put them there: no other thread is left to change them.
///
/// Costs 1 to 3 µs an exec, by the length of its paths. Of a script it sees the interpreter, as
/// `/proc` does. Names are those of the mount namespace, whatever the process calls its root.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    context::keep(ctx.arg::<u64>(1) as u32);
    image::tell(current_task(), now(), header(kind::EXECUTED));
    0
}

/// Raw tracepoint `sched_process_exit`, Linux 2.6.29: a thread ends, and with it what it worked for;
/// told when it is the process's last.
///
/// Costs about 0.2 µs. Two last threads that end at once may both tell. Later kernels pass another
/// argument, which is not used.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    context::forget();
    let task = ctx.arg::<*const c_void>(0) as u64;
    let more = process_offsets();
    let signal: u64 = field(task, more.task_signal);
    if more.signal_live != ABSENT && field::<u32>(signal, more.signal_live) == 0 {
        emit::process(Exited {
            header: header(kind::EXITED),
            at_ns: now(),
            process: identity(task, &offsets(), &more),
        });
    }
    0
}

#[inline(always)]
fn header(kind: u32) -> Header {
    Header { kind, reserved: 0 }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}
