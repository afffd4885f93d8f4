//! For which tool call a thread works, and how that is passed on.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::{
    context::{Context, origin},
    limits::loss,
};

use crate::{
    maps::{CONTEXT_STATE, CONTEXTS, count_loss, process_offsets},
    process::field,
};

/// What the calling thread works for.
///
/// Costs a few instructions while nobody has said anything, and a lookup afterwards.
#[inline(always)]
pub(crate) fn current() -> Context {
    of(tid()).unwrap_or_default()
}

/// A new thread or process of the calling thread's.
#[inline(always)]
pub(crate) fn inherit(child: u64, is_thread: bool) {
    let Some(parent) = of(tid()) else {
        return;
    };
    let child: u32 = field(child, process_offsets().task_pid);
    if child == 0 {
        return;
    }
    let origin = match parent.origin {
        origin::OWN if is_thread => origin::INHERITED,
        origin::OWN => origin::FORKED,
        origin::KEPT => origin::KEPT,
        origin::UNSURE => origin::UNSURE,
        _forked_or_inherited => origin::INHERITED,
    };
    set(child, Context { origin, ..parent });
}

/// The calling thread runs another program now; it had the id `before`, if it was not the only one.
#[inline(always)]
pub(crate) fn keep(before: u32) {
    let Some(context) = of(before) else {
        return;
    };
    let origin = match context.origin {
        origin::OWN | origin::FORKED | origin::KEPT => origin::KEPT,
        _inherited => origin::UNSURE,
    };
    let now = tid();
    if before != now {
        let _gone = CONTEXTS.remove(before);
    }
    set(now, Context { origin, ..context });
}

/// The calling thread ends. Another one may get its id.
#[inline(always)]
pub(crate) fn forget() {
    if is_in_use() {
        let _absent = CONTEXTS.remove(tid());
    }
}

#[inline(always)]
fn of(tid: u32) -> Option<Context> {
    if !is_in_use() {
        return None;
    }
    let context = CONTEXTS.get_ptr(tid)?;
    // SAFETY: the pointer is a map value. Userspace replaces values whole.
    Some(unsafe { *context })
}

#[inline(always)]
fn set(tid: u32, context: Context) {
    if CONTEXTS.insert(tid, context, 0).is_err() {
        count_loss(loss::CONTEXTS_FULL, 1);
    }
}

#[inline(always)]
fn is_in_use() -> bool {
    match CONTEXT_STATE.get_ptr(0) {
        // SAFETY: the pointer is a map value.
        Some(state) => unsafe { (*state).in_use != 0 },
        None => false,
    }
}

#[inline(always)]
fn tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}
