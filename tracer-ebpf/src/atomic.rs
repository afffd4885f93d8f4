//! The atomic operations that programs need.
//!
//! The BPF target has them, but `core` does not offer them there (it wants compare-and-swap of
//! every width), so they are written in assembly.

use core::arch::asm;

/// `*counter += n`. Every kernel that this object loads on has it (Linux 4.0).
///
/// # Safety
/// `counter` points into a map value or a socket's storage, aligned to 8 bytes.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, n: u64) {
    // SAFETY: promised by the caller, checked by the verifier.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) n) };
}

/// The same of a narrower counter.
///
/// # Safety
/// As for [`add`], aligned to 4 bytes.
#[inline(always)]
pub(crate) unsafe fn add_narrow(counter: *mut u32, n: u32) {
    // SAFETY: promised by the caller, checked by the verifier.
    unsafe { asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) counter, in(reg) u64::from(n)) };
}

/// Stores `value` and returns what was there. Linux 5.12.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn swap(place: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: promised by the caller, checked by the verifier.
    unsafe { asm!("{1} = xchg_64({0} + 0, {1})", in(reg) place, inout(reg) value) };
    value
}
