//! The log record: what one line of `flows.jsonl` says. The seam of the house.
//!
//! Left of here things are live; right of here everything works from records alone, so that the
//! daemon's candidates and `generate` over the daemon's log agree by construction. The meaning of
//! each key is documented in `docs/log.md`.

mod channel;
mod dns;
mod gap;
mod name;
mod outcome;
mod place;
mod protocol;
mod tool;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::{
    channel::{Channel, Direction},
    dns::{Dns, DnsAnswer, DnsQuestion, DnsTransport},
    gap::{Gap, GapKind, Severity},
    name::{Confidence, Name, NameSource},
    outcome::Outcome,
    place::{Place, Role},
    protocol::{Protocol, UnknownProtocol},
    tool::{Attribution, Registered, Tool, ToolCall, ToolKind},
};

/// The value of every record's `schema` key.
pub const SCHEMA: &str = "egress-tracer/1";

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// Something left, or tried to.
    Flow(Entry<Box<Flow>>),
    /// Something is known to be missing.
    Gap(Entry<Gap>),
    /// Two workload names turned out to be one.
    Alias(Entry<Alias>),
    /// The tracer's counters.
    Stats(Entry<Stats>),
    /// The segment ends here and goes on in the next file.
    Rotate(Entry<Rotate>),
    /// Recording begins.
    Start(Entry<Start>),
    /// Recording ended in good order.
    Stop(Entry<Stop>),
    /// A name was asked for.
    Dns(Entry<Box<Dns>>),
    /// Something went where no approval in force covers it.
    Drift(Entry<Box<Drift>>),
    /// A process has said which tools, models and retrievers it may use.
    Registered(Entry<Registered>),
}

/// What every record carries, around what is its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// [`SCHEMA`].
    pub schema: String,
    /// When the record was written.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    pub host: String,
    /// One lifetime of a container, pod or unit, or one `run` command.
    pub run: String,
    pub workload: String,
    #[serde(flatten)]
    pub body: T,
}

/// One flow, as far as it was not told by an earlier record with the same key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub protocol: Protocol,
    /// IPv4-mapped IPv6 is written as IPv4. Absent where a channel has no IP destination.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_canonical",
        deserialize_with = "de_some_canonical"
    )]
    pub dest_ip: Option<IpAddr>,
    /// Of link-local IPv6: the interface that it goes by (RFC 4007 section 6), by name, or by number where
    /// that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_zone: Option<String>,
    /// Of AF_VSOCK: which machine (`VMADDR_CID_HOST` is 2), and which port there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_cid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_cid_port: Option<u32>,
    /// Of a Unix socket: the path that its owner bound it to, or an abstract name as `@name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_path: Option<String>,
    /// Absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    pub channel: Channel,
    pub direction: Direction,
    /// Absent for the public internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it is there for, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The other container's name, of role `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What left in place of `dest_ip` and `dest_port`, where something rewrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<Translated>,
    /// Who sent on the workload's behalf, when it was not the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Of datagrams: whether one has come back from there since this key's last record. Absent of
    /// everything else, and where that is not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
    /// Since this key's last record. See `docs/log.md` for what is counted.
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Mean time from connect() to established, of those that this record tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// SYNs that were sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syn_retransmits: Option<u64>,
    /// Connections that are over, of this record's or of earlier ones'; the bytes are theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Connections that are open, as recording ends: the bytes are theirs as well, as far as no record
    /// has told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_open: Option<u64>,
    /// Of those that are over, reset by the other side after an earlier record had told them as established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_later: Option<u64>,
    /// From established to the end, summed over those that are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// First and last observation that this record counts.
    #[serde(with = "nanoseconds")]
    pub first_seen: Timestamp,
    #[serde(with = "nanoseconds")]
    pub last_seen: Timestamp,
    #[serde(flatten)]
    pub process: Process,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The agent's tool that was running, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
}

/// Where packets went that were asked to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Translated {
    #[serde(serialize_with = "canonical", deserialize_with = "de_canonical")]
    pub ip: IpAddr,
    /// Absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Absent where it was rewritten on its way out of the sender's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<RewrittenBy>,
}

/// Who rewrote a destination, where not something in the sender's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewrittenBy {
    /// The host's NAT, after the packet had left the namespace.
    Host,
}

/// Who sent. Absent fields could not be read (the process was gone).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmdline: Vec<String>,
    /// The command line was longer than what is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cmdline_cut: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its pid inside the container, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pid: Option<u32>,
    /// When the process began.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_nanoseconds"
    )]
    pub started: Option<Timestamp>,
    /// Who started it, nearest first, up to the container's first process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
    /// There are more of them, or they are not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ancestors_cut: bool,
}

/// A process when it made another. Absent fields are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmdline: Vec<String>,
    /// The command line was longer than what is kept of an ancestor's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cmdline_cut: bool,
}

/// The container that sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub runtime: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As the user gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// There were more labels than what is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_cut: bool,
    /// `name@sha256:…` where the image came from a registry, else the image's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// What made the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PodOwner>,
}

/// What made a pod: a Deployment, a Job; the pod itself if nothing did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOwner {
    /// Kubernetes' word: `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, `Pod`; or
    /// `StaticPod`.
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The container engine's resolver, working inside the container's network namespace.
    Engine,
}

/// Records under `provisional` belong to this record's `workload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    pub provisional: String,
}

/// Counters since the tracer started; all of them only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Every counter by name, documented in `docs/log.md`.
    pub counters: BTreeMap<String, u64>,
}

/// The end of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotate {
    /// The file in which this log goes on.
    pub next: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Version of egress-tracer.
    pub version: String,
    pub pid: u32,
    /// What is attached, by name.
    pub hooks: Vec<String>,
    /// Hooks that this kernel lacks, each with what is therefore not seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, String>,
    /// The command, for `run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Why: the command ended, or the signal's name.
    pub reason: String,
    /// Flow records written to this log by this process, and the sum of their counts.
    pub records: u64,
    pub count: u64,
    /// The command's exit code, for `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A destination that a reviewed policy does not cover, told when it was first seen to be so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    pub kind: DriftKind,
    #[serde(serialize_with = "canonical", deserialize_with = "de_canonical")]
    pub to: IpAddr,
    /// `443/tcp`, `icmp`.
    pub service: String,
    /// In one sentence, for people.
    pub detail: String,
    /// As in the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<Translated>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    #[serde(flatten)]
    pub process: Process,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// How an observed destination differs from the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// It is denied.
    Denied,
    /// No entry knows it.
    New,
    /// It is approved with another service, or to be rewritten to another place.
    Changed,
    /// It is still a candidate.
    Unreviewed,
    /// Its approval is over.
    Expired,
}

impl DriftKind {
    /// As the log spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unreviewed => "unreviewed",
            Self::Expired => "expired",
        }
    }
}

/// IPv4-mapped IPv6 (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) as the IPv4 address it stands for.
#[must_use]
pub fn canonical_ip(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The address of a kernel key, in which IPv4 is always written mapped.
#[must_use]
pub fn ip_from_mapped(bytes: [u8; 16]) -> IpAddr {
    canonical_ip(IpAddr::V6(Ipv6Addr::from(bytes)))
}

fn canonical<S: Serializer>(address: &IpAddr, serializer: S) -> Result<S::Ok, S::Error> {
    canonical_ip(*address).serialize(serializer)
}

fn some_canonical<S: Serializer>(
    address: &Option<IpAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    address.map(canonical_ip).serialize(serializer)
}

fn de_some_canonical<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IpAddr>, D::Error> {
    Ok(Option::<IpAddr>::deserialize(deserializer)?.map(canonical_ip))
}

fn de_canonical<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    IpAddr::deserialize(deserializer).map(canonical_ip)
}

/// RFC 3339 in UTC with exactly nine digits of a second.
pub mod nanoseconds {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.9}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// The same where a time may be absent.
pub mod optional_nanoseconds {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, nanoseconds};

    pub fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => nanoseconds::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<Timestamp>::deserialize(deserializer)
    }
}
