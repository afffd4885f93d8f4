//! The capabilities that recording needs. The others go, for good.

use rustix::{
    io,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// Each with its name and what it is for, which is what is missing without it.
const NEEDED: [(CapabilitySet, &str, &str); 6] = [
    (
        CapabilitySet::BPF,
        "CAP_BPF",
        "loads programs and reads their tables",
    ),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "lets programs read kernel fields",
    ),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "attaches programs to cgroups, and reads the host's table of rewrites",
    ),
    (
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "reads executable and working directory of other users' processes that ran before, and finds \
         network namespaces",
    ),
    (
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "enters network namespaces to list connections that are open already, lists other people's \
         programs that rewrite destinations, and mounts a bpffs where there is none",
    ),
    (
        CapabilitySet::DAC_OVERRIDE,
        "CAP_DAC_OVERRIDE",
        "finds the owners of open connections, writes into a user's directory, and asks a user's \
         container engine",
    ),
];

/// Drops every capability that recording does not need, of this thread and of those that it starts
/// from now on, and makes sure that no program could gain one by being executed.
///
/// # Errors
/// The kernel refuses: for a security module's sake, say. What was dropped before stays so.
pub(super) fn give_up_the_rest() -> io::Result<()> {
    let needed = needed();
    let permitted = capabilities(None)?.permitted;
    // What nobody can gain does not come back. Taking it away needs a capability, so it comes first.
    if permitted.contains(CapabilitySet::SETPCAP) {
        let all = CapabilitySet::all();
        let others = all.iter_names().map(|(_, one)| one);
        for one in others.filter(|one| !needed.contains(*one)) {
            // A kernel may not know the newest ones.
            if capability_is_in_bounding_set(one).unwrap_or(false) {
                remove_capability_from_bounding_set(one)?;
            }
        }
    }
    clear_ambient_capability_set()?;
    let kept = permitted & needed;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    set_no_new_privs(true)
}

/// What this process lacks of what recording needs, by name, each with what it is for.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let mut held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if held.contains(CapabilitySet::SYS_ADMIN) {
        // It stands for them as well, as before Linux 5.8.
        held |= CapabilitySet::BPF | CapabilitySet::PERFMON;
    }
    let lacking = NEEDED.into_iter().filter(|(one, ..)| !held.contains(*one));
    lacking.map(|(_, name, what)| (name, what)).collect()
}

fn needed() -> CapabilitySet {
    let each = NEEDED.into_iter().map(|(one, ..)| one);
    each.fold(CapabilitySet::empty(), |all, one| all | one)
}
