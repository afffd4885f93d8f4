//! Counting in the flow table, which is the truth: whatever else is lost, its sums are right.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{bpf_ktime_get_ns, generated::bpf_ktime_get_coarse_ns},
};
use aya_log_ebpf::info;
use tracer_common::{
    flow::{FlowKey, FlowValue, channel},
    limits::{CgroupQuota, loss},
    outcome::Outcomes,
};

use crate::{
    atomic, emit,
    maps::{FLOWS, FlowTable, QUOTAS, cgroup_quota, count_loss, generation},
    process::Caller,
};

/// `-EEXIST`: another CPU was first.
pub(crate) const EXISTS: i32 = -17;

/// One attempt to go somewhere.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) seen: Seen,
    /// Another program has denied it.
    pub(crate) blocked: bool,
    pub(crate) socket_cookie: u64,
    pub(crate) clock: Clock,
}

/// By which clock `last_ns` is told. The programs of some hooks may not read the cheaper one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Coarse,
    Exact,
}

/// Whether the packet that follows is worth a look: is it what was asked for?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    No,
    /// The flow is new in the table.
    New,
    /// The flow was rewritten before.
    Again,
}

/// What was observed of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A stream connect, or a datagram that leaves.
    Sent,
    /// A datagram socket was connected; nothing has left.
    Connected,
    /// Nothing new: only what became of what was counted before.
    Aftermath,
}

/// Counts one observation of `key`. `caller` is only asked when the key is new.
#[inline(always)]
pub(crate) fn observe(
    ctx: &impl EbpfContext,
    key: &FlowKey,
    attempt: Attempt,
    caller: impl FnOnce() -> Caller,
) -> Look {
    let Some(table) = FLOWS.get(0) else {
        count_loss(loss::NO_TABLE, 1);
        return Look::No;
    };
    if let Some(value) = table.get_ptr_mut(key) {
        count(value, attempt)
    } else {
        admit(ctx, table, key, attempt, caller)
    }
}

/// Remembers that something else than what was asked for has left.
#[inline(always)]
pub(crate) fn mark_translated(key: &FlowKey) {
    if let Some(table) = FLOWS.get(0)
        && let Some(value) = table.get_ptr_mut(key)
    {
        // SAFETY: the pointer is a map value, and whoever writes here writes 1.
        unsafe { (*value).translated = 1 };
    }
}

/// Remembers where a packet of the flow came from, by which it is found again where the host rewrites
/// it, and by which interface it leaves.
#[inline(always)]
pub(crate) fn note_source(key: &FlowKey, address: [u8; 16], port: u16, interface: u32) {
    if let Some(table) = FLOWS.get(0)
        && let Some(value) = table.get_ptr_mut(key)
    {
        // SAFETY: the pointer is a map value. Of two CPUs that write here at once, each writes a
        // source of this flow; a mixture of the two is found nowhere, which costs a detail.
        unsafe {
            (*value).source = address;
            (*value).source_port = port;
            (*value).interface = interface;
        }
    }
}

#[inline(always)]
fn count(value: *mut FlowValue, attempt: Attempt) -> Look {
    // SAFETY: the pointer is a map value, valid until the program ends. Entries are only deleted
    // from a table that no program can reach any more. The counters are updated atomically, and
    // a race on `last_ns` is between two values that are both right.
    unsafe {
        let counter = match attempt.seen {
            Seen::Sent => &raw mut (*value).count,
            Seen::Connected => &raw mut (*value).connects,
            Seen::Aftermath => return Look::No,
        };
        atomic::add(counter, 1);
        if attempt.blocked {
            atomic::add(&raw mut (*value).blocked, 1);
        }
        (*value).last_ns = match attempt.clock {
            Clock::Coarse => bpf_ktime_get_coarse_ns(),
            Clock::Exact => bpf_ktime_get_ns(),
        };
        match (*value).translated {
            0 => Look::No,
            1.. => Look::Again,
        }
    }
}

/// Adds a new key, within the cgroup's quota.
#[inline(always)]
fn admit(
    ctx: &impl EbpfContext,
    table: &FlowTable,
    key: &FlowKey,
    attempt: Attempt,
    caller: impl FnOnce() -> Caller,
) -> Look {
    let Some(quota) = quota_of(key.cgroup_id) else {
        count_loss(loss::TABLE_FULL, 1);
        return Look::No;
    };
    let is_reply = matches!(
        key.channel,
        channel::REPLY | channel::UNCERTAIN | channel::CONNECTED_REPLY
    );
    if is_reply {
        // Who scans a server must not use up what its own destinations need.
        if !take_share(quota, cgroup_quota() / 4) {
            count_loss(loss::REPLIES_FULL, 1);
            return Look::No;
        }
    } else if !take_share(quota, cgroup_quota()) {
        info!(
            ctx,
            "cgroup {} has used up its share of the flow table", key.cgroup_id
        );
        refuse(quota, loss::QUOTA_FULL);
        return Look::No;
    }
    let value = first_value(attempt, &caller());
    match table.insert(key, value, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            emit::new_flow(key, &value);
            return Look::New;
        }
        Err(EXISTS) => match table.get_ptr_mut(key) {
            Some(value) => return count(value, attempt),
            None => refuse(quota, loss::TABLE_FULL),
        },
        Err(error) => {
            info!(ctx, "the flow table refused a key: {}", error);
            refuse(quota, loss::TABLE_FULL);
        }
    }
    Look::No
}

#[inline(always)]
fn first_value(attempt: Attempt, caller: &Caller) -> FlowValue {
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    FlowValue {
        count: u64::from(attempt.seen == Seen::Sent),
        connects: u64::from(attempt.seen == Seen::Connected),
        first_ns: now,
        last_ns: now,
        socket_cookie: attempt.socket_cookie,
        tid: caller.tid,
        uid: caller.uid,
        parent_pid: caller.parent_pid,
        translated: 0,
        comm: caller.comm,
        blocked: u64::from(attempt.blocked),
        source: [0; 16],
        source_port: 0,
        reserved: [0; 2],
        interface: 0,
        outcomes: Outcomes::default(),
    }
}

/// Adds to what became of a flow's attempts. Where the table was swept since, the flow comes into
/// the new one for that alone.
#[inline(always)]
pub(crate) fn settle(key: &FlowKey, news: &Outcomes) {
    if news.established | news.refused | news.timed_out | news.unreachable == 0
        && news.abandoned | news.ended == 0
        && news.bytes_received == 0
    {
        return;
    }
    let Some(table) = FLOWS.get(0) else {
        return;
    };
    let value = match table.get_ptr_mut(key) {
        Some(value) => Some(value),
        None => admit_again(table, key),
    };
    match value {
        // SAFETY: the pointer is a map value.
        Some(value) => unsafe { add_outcomes(&raw mut (*value).outcomes, news) },
        None => count_loss(loss::OUTCOMES_FULL, 1),
    }
}

/// # Safety
/// `to` points into a map value.
#[inline(always)]
unsafe fn add_outcomes(to: *mut Outcomes, news: &Outcomes) {
    let add = |counter: *mut u64, n: u64| {
        if n != 0 {
            // SAFETY: promised by the caller.
            unsafe { atomic::add(counter, n) };
        }
    };
    let add_narrow = |counter: *mut u32, n: u32| {
        if n != 0 {
            // SAFETY: promised by the caller.
            unsafe { atomic::add_narrow(counter, n) };
        }
    };
    // SAFETY: promised by the caller.
    unsafe {
        add_narrow(&raw mut (*to).established, news.established);
        add_narrow(&raw mut (*to).refused, news.refused);
        add_narrow(&raw mut (*to).timed_out, news.timed_out);
        add_narrow(&raw mut (*to).unreachable, news.unreachable);
        add_narrow(&raw mut (*to).abandoned, news.abandoned);
        add_narrow(&raw mut (*to).reset, news.reset);
        add_narrow(&raw mut (*to).ended, news.ended);
        add_narrow(&raw mut (*to).syn_retransmits, news.syn_retransmits);
        add(&raw mut (*to).latency_ns, news.latency_ns);
        add(&raw mut (*to).duration_ns, news.duration_ns);
        add(&raw mut (*to).bytes_sent, news.bytes_sent);
        add(&raw mut (*to).bytes_received, news.bytes_received);
    }
}

/// Adds a key that an earlier table had. A refusal costs no destination.
#[inline(always)]
fn admit_again(table: &FlowTable, key: &FlowKey) -> Option<*mut FlowValue> {
    if !take_share(quota_of(key.cgroup_id)?, cgroup_quota()) {
        return None;
    }
    let nobody = Caller {
        tid: 0,
        uid: 0,
        parent_pid: 0,
        comm: [0; 16],
    };
    let nothing = Attempt {
        seen: Seen::Aftermath,
        blocked: false,
        socket_cookie: 0,
        clock: Clock::Exact,
    };
    let value = first_value(nothing, &nobody);
    match table.insert(key, value, u64::from(BPF_NOEXIST)) {
        Ok(()) => emit::key_again(),
        Err(EXISTS) => {}
        Err(_full) => return None,
    }
    table.get_ptr_mut(key)
}

/// The quota of `cgroup_id`; the bucket shared by all (id 0) when the table of quotas is full.
#[inline(always)]
fn quota_of(cgroup_id: u64) -> Option<*mut CgroupQuota> {
    if let Some(quota) = QUOTAS.get_ptr_mut(cgroup_id) {
        return Some(quota);
    }
    let fresh = CgroupQuota {
        generation: 0,
        used: 0,
        refused: 0,
    };
    if QUOTAS
        .insert(cgroup_id, fresh, u64::from(BPF_NOEXIST))
        .is_err()
    {
        if let Some(quota) = QUOTAS.get_ptr_mut(cgroup_id) {
            return Some(quota);
        }
        count_loss(loss::CGROUPS_FULL, 1);
        return QUOTAS.get_ptr_mut(0u64);
    }
    QUOTAS.get_ptr_mut(cgroup_id)
}

/// Takes one key out of the quota, or says that there is none left.
///
/// Two CPUs may both reset `used` when the table is new; the quota is then off by a few keys,
/// which the table's own size bounds.
#[inline(always)]
fn take_share(quota: *mut CgroupQuota, most: u64) -> bool {
    let generation = generation();
    // SAFETY: the pointer is a map value.
    unsafe {
        if (*quota).generation != generation {
            (*quota).generation = generation;
            (*quota).used = 0;
        }
        if (*quota).used >= most {
            return false;
        }
        atomic::add(&raw mut (*quota).used, 1);
    }
    true
}

#[inline(always)]
fn refuse(quota: *mut CgroupQuota, reason: u32) {
    // SAFETY: the pointer is a map value.
    unsafe { atomic::add(&raw mut (*quota).refused, 1) };
    count_loss(reason, 1);
}
