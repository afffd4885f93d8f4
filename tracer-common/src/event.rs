//! What the ring buffer carries: news, never counts.
//!
//! Every event starts with an [`Header`]. Losing one costs detail (userspace reads `/proc` later
//! or never), not a flow: the flow table has it.

use bytemuck::{Pod, Zeroable};

use crate::flow::{FlowKey, FlowValue};

/// `Header::kind`.
pub mod kind {
    /// A key is new in the flow table: [`super::NewFlow`].
    pub const NEW_FLOW: u32 = 1;
    /// A cgroup was made or removed: [`super::CgroupChange`].
    pub const CGROUP_CREATED: u32 = 2;
    pub const CGROUP_REMOVED: u32 = 3;
    /// A key is in the flow table again, for what became of earlier attempts: a [`super::Header`].
    pub const KEY_AGAIN: u32 = 4;
}

/// How much of a cgroup's path travels in an event. Kubernetes paths measure 200 to 250 bytes.
pub const CGROUP_PATH_BYTES: usize = 512;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    pub reserved: u32,
}

/// A key was added to the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct NewFlow {
    pub header: Header,
    pub key: FlowKey,
    pub value: FlowValue,
}

/// A cgroup of the v2 hierarchy was made or removed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CgroupChange {
    pub header: Header,
    pub cgroup_id: u64,
    /// Bytes of `path` in use, without the NUL; `CGROUP_PATH_BYTES - 1` means "cut".
    pub path_len: u32,
    pub reserved: u32,
    pub path: [u8; CGROUP_PATH_BYTES],
}

const _: () = assert!(size_of::<NewFlow>() == 232);
const _: () = assert!(size_of::<CgroupChange>() == 24 + CGROUP_PATH_BYTES);
