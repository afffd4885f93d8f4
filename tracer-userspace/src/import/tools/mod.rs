//! Logs of other tools, one small file a format: what each line says, in common words.
//!
//! `detect` knows whose line it is. `names` joins what lines say about names with what they say about
//! connections.

mod cargowall;
mod detect;
mod gadget;
mod hubble;
mod loose;
pub(super) mod names;
mod suricata;
mod tetragon;
mod zeek;
mod zeek_table;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
};

use jiff::Timestamp;

pub(super) use detect::{Marks, Tool, tool};
pub(super) use zeek_table::Table;

use crate::{
    policy::observe::{Destination, service},
    record::{Name, NameSource, Outcome, Protocol, canonical_ip},
};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something left, or tried to.
    Sighting(Box<Sighting>),
    /// Addresses that a client was given for a name.
    Answer(Answer),
    /// What a connection called its peer; its line is another one.
    Claim {
        connection: Connection,
        claim: Claim,
    },
    /// A peer began it.
    Ingress { workload: Option<String> },
    /// The tool itself lost so many events.
    Lost(u64),
    /// Nothing about egress.
    Nothing,
}

/// A destination that something was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Who sent. Absent where the tool does not say.
    pub(super) client: Option<IpAddr>,
    /// The tool says that the workload sent; otherwise whoever began it did, and `--local` decides.
    pub(super) is_egress: bool,
    pub(super) destination: Destination,
    pub(super) workload: Option<String>,
    pub(super) time: Option<Timestamp>,
    /// 0 where another line counts the same.
    pub(super) count: u64,
    pub(super) outcome: Option<Outcome>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) process: Option<String>,
    pub(super) connection: Option<Connection>,
    pub(super) claim: Option<Claim>,
    /// Names that the tool itself has found.
    pub(super) names: Vec<Name>,
}

/// The number of a connection, by which lines about it find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connection(u64);

impl Connection {
    /// A hash of what the tool calls it: a colliding pair in a million connections is less likely
    /// than one in ten million.
    fn new(tool: Tool, id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (tool as u8, id).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A name that a connection itself carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) source: NameSource,
}

impl Claim {
    /// `None` where `name` is no host name.
    fn new(name: Option<&str>, source: NameSource) -> Option<Self> {
        let name = crate::decode::name::from_text(name?.as_bytes())?;
        Some(Self { name, source })
    }
}

/// Addresses that a client was given for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) client: IpAddr,
    pub(super) name: String,
    /// Each with the seconds it may be used for, where the tool says.
    pub(super) addresses: Vec<(IpAddr, Option<u32>)>,
    pub(super) time: Timestamp,
}

impl Answer {
    /// [`Told::Nothing`] if no address was given, or it cannot be dated.
    fn told(
        client: IpAddr,
        name: &str,
        addresses: Vec<(IpAddr, Option<u32>)>,
        time: Option<Timestamp>,
    ) -> Told {
        let name = crate::decode::name::from_text(name.as_bytes());
        match (name, time) {
            (Some(name), Some(time)) if !addresses.is_empty() => Told::Answer(Self {
                client: canonical_ip(client),
                name,
                addresses,
                time,
            }),
            (_, _) => Told::Nothing,
        }
    }
}

impl Sighting {
    /// One attempt to reach `ip`; an error says what is missing.
    fn new(protocol: Protocol, ip: IpAddr, port: Option<u16>) -> Result<Self, String> {
        let ip = canonical_ip(ip);
        let port = port.filter(|port| *port != 0);
        let service = service(protocol, port).ok_or("the destination's port is missing")?;
        Ok(Self {
            client: None,
            is_egress: false,
            destination: Destination { ip, service },
            workload: None,
            time: None,
            count: 1,
            outcome: None,
            bytes_sent: 0,
            bytes_received: 0,
            process: None,
            connection: None,
            claim: None,
            names: Vec::new(),
        })
    }

    fn told(self) -> Told {
        Told::Sighting(Box::new(self))
    }
}

/// Understands a line of `tool`, or says why not.
pub(super) fn parse(tool: Tool, line: &[u8]) -> Result<Told, String> {
    match tool {
        Tool::Zeek => zeek::parse(line),
        Tool::Suricata => suricata::parse(line),
        Tool::Tetragon => tetragon::parse(line),
        Tool::Gadget => gadget::parse(line),
        Tool::Hubble => hubble::parse(line),
        Tool::CargoWall => cargowall::parse(line),
    }
}

/// What a workload in Kubernetes is called, as when it is recorded: `<namespace>_<kind>_<owner>`; by
/// its pod where the tool does not tell who made it.
fn workload(
    namespace: Option<&str>,
    owner: Option<(&str, &str)>,
    pod: Option<&str>,
) -> Option<String> {
    let namespace = namespace.filter(|text| !text.is_empty())?;
    let owner = owner.filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
    let (kind, name) = owner.or(pod.map(|pod| ("pod", pod)))?;
    let kind = kind.to_ascii_lowercase();
    (!name.is_empty()).then(|| format!("{namespace}_{kind}_{name}"))
}

/// A program's file name.
fn file_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    (!name.is_empty()).then(|| name.to_owned())
}
