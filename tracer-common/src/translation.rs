//! What leaves in place of what was asked for: NAT, or another program's rewrite.

use bytemuck::{Pod, Zeroable};

use crate::flow::FlowKey;

/// One place to which a flow's packets went instead of, or beside, the one that was asked for.
/// The key of the set of translations; it has no value to speak of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Translation {
    pub key: FlowKey,
    /// On the packet, network byte order; IPv4 as `::ffff:a.b.c.d`. Equal to the key's where one
    /// attempt of a flow is rewritten and the next is not.
    pub address: [u8; 16],
    /// Host byte order; 0 where the protocol has none.
    pub port: u16,
    /// Always zero: a hash key is compared byte by byte.
    pub reserved: [u8; 6],
}

/// What the running CPU has just been asked for, until the packet that follows leaves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Asked {
    /// Whose packet it is; 0: nothing was asked for.
    pub socket_cookie: u64,
    /// 1 where an earlier attempt of the flow was rewritten.
    pub translated: u64,
    pub key: FlowKey,
}

/// Where a call wanted to go, noted before other people's programs could rewrite it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct FirstAsked {
    /// The calling thread, as bpf_get_current_pid_tgid() tells it.
    pub caller: u64,
    pub socket_cookie: u64,
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u64,
}

/// How many translations are kept between two sweeps.
pub const MAX_TRANSLATIONS: usize = 8192;

const _: () = assert!(size_of::<Translation>() == 80);
const _: () = assert!(size_of::<Asked>() == 72);
const _: () = assert!(size_of::<FirstAsked>() == 40);
