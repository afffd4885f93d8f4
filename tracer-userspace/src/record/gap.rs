//! `Gap`: evidence that is known to be missing.

use serde::{Deserialize, Serialize};

/// Known missing evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What was lost, in a word that scripts can match.
    pub what: GapKind,
    /// In one sentence, for people.
    pub detail: String,
    /// How many, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    pub severity: Severity,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// The kernel's flow table was full.
    FlowTable,
    /// The cgroup's share of the flow table was used up.
    CgroupQuota,
    /// The ring buffer was full: names and command lines may be missing.
    Ring,
    /// A socket could not be remembered.
    SocketStorage,
    /// The kernel sent something this version cannot read.
    Undecodable,
    /// The tracer was not running, or did not end in good order.
    Downtime,
    /// A log segment was deleted before a policy had taken it in.
    SegmentDeleted,
    /// The log could not be written.
    LogWrite,
    /// Processes were not followed, or forgotten too early: command lines and ancestors may be
    /// missing.
    Process,
    /// The container has a kernel of its own, in which nothing is seen.
    OtherKernel,
    /// Flows came from a cgroup of which nothing is known any more.
    UnknownCgroup,
    /// Container engines were not asked, for there were too many questions.
    Names,
    /// What left in place of a destination was not noted.
    Translation,
    /// Connections that were open before recording began could not be listed.
    Preexisting,
    /// What an earlier daemon had pinned in the kernel did not fit this one, and was replaced.
    Replaced,
    /// The hooks could not be attached to a container's cgroup.
    NotAttached,
    /// What became of connections was not counted: they are unknown, or their bytes are missing.
    Outcomes,
    /// Replies of servers were not counted, or could not be told from what was asked for.
    Replies,
    /// Not all of what was said on the wire was read: names may be missing.
    Wire,
    /// More connections at a time than are followed: counts and names of some are uncertain.
    Connections,
    /// More destinations drift from a policy than are told one by one.
    Drift,
    /// For which tool call something was sent could not be kept: it is ambiguous.
    Tools,
    /// A kind that this version does not know, of a later one. Its severity is what counts.
    #[serde(untagged)]
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A destination may be missing.
    Destinations,
    /// A name, a process or a count is uncertain.
    Detail,
}
