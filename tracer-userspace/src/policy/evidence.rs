//! `policy.evidence.json`: the figures behind a policy, which change with every run.
//!
//! They live beside `policy.toml` so that its own history shows only news.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    harmless,
    policy::{
        model::{Service, Target},
        observe,
        tools::Tools,
        translation::{Left, Translation},
    },
    record::{Channel, GapKind, Name, Outcome, Role, Severity, optional_nanoseconds},
};

/// The value of the file's `schema` key.
pub const SCHEMA: &str = "egress-tracer/evidence/1";

/// The whole file. Every list is sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub schema: String,
    pub workload: String,
    /// Whether no destination is known to be missing.
    pub complete: bool,
    /// Why one may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
    /// Runs recorded.
    pub runs: u64,
    /// Recordings that ended in neither `rotate` nor `stop`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unclosed: u64,
    /// Records about destinations beyond the maximum.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<GapFigures>,
    /// Hooks that the kernel lacked, each with what was therefore not seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing_hooks: BTreeMap<String, String>,
    pub sources: Vec<Source>,
    pub destinations: Vec<Destination>,
    /// One for each name by which something may be allowed and service, over all its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Named>,
    /// What was tried and never succeeded: no candidate for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_succeeded: Vec<Failed>,
    /// What left without an IP destination: no rule allows or denies that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unaddressed: Vec<Unaddressed>,
    /// What the policy lists and these sources do not show, as earlier evidence has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vanished: Vec<Vanished>,
    /// Which records tell of each destination, where that was asked for (`generate --records`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Pointer>,
}

/// The records of one log that tell of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    pub to: IpAddr,
    #[serde(with = "service_text")]
    pub service: Service,
    /// Of the log's uncompressed bytes.
    pub sha256: String,
    /// Lines of the unpacked log, counted from 1: the first of them.
    pub lines: Vec<u64>,
    /// How many there are.
    pub count: u64,
}

/// In how many runs a name was reached. Its addresses come and go; how often each was seen says
/// little about the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub to: String,
    #[serde(with = "service_text")]
    pub service: Service,
    pub runs: u64,
    /// How many addresses it had in them.
    pub addresses: u64,
}

/// A destination of which every attempt is known to have failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub to: IpAddr,
    #[serde(with = "service_text")]
    pub service: Service,
    pub outcomes: BTreeMap<Outcome, u64>,
}

/// A way out without an IP destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaddressed {
    pub channel: Channel,
    /// Whom to, where that is known: `cid 2 port 1024`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    pub count: u64,
    pub processes: Vec<String>,
}

/// A destination that was seen once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanished {
    pub to: IpAddr,
    #[serde(with = "service_text")]
    pub service: Service,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_nanoseconds"
    )]
    pub last_seen: Option<Timestamp>,
}

/// Gap records of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFigures {
    pub what: GapKind,
    pub severity: Severity,
    pub records: u64,
    pub lost: u64,
}

/// A log segment or an imported file, known by its content alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Of the uncompressed bytes.
    pub sha256: String,
    pub records: u64,
}

impl From<&observe::Source> for Source {
    fn from(source: &observe::Source) -> Self {
        Self {
            sha256: source.sha256.clone(),
            records: source.records,
        }
    }
}

/// What was seen of one destination and service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub to: IpAddr,
    #[serde(with = "service_text")]
    pub service: Service,
    /// What it is there for, or whose it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The other containers that had the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// Runs in which it was seen.
    pub runs: u64,
    pub connections: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Of datagrams: whether any came back. Absent where that is not known of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
    /// Absent where nobody counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_sent: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_received: u64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_nanoseconds"
    )]
    pub first_seen: Option<Timestamp>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_nanoseconds"
    )]
    pub last_seen: Option<Timestamp>,
    /// The names by which this part of what was seen there may be allowed; absent: only the
    /// address can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub believed: Vec<String>,
    /// The agent's tool that this part of it was for; absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// It was for one of these, and it is not known for which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of_tools: Vec<String>,
    /// Names under which it was reached, as in the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    /// There were more names than are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_names: bool,
    pub processes: Vec<String>,
    /// There were more processes than are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_processes: bool,
    /// Some of the command lines, secrets taken out, and containers of those processes, for people:
    /// the first few in sorted order, cut where they are long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// The container engine's resolver asked on the workload's behalf.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub via_engine: bool,
    /// A process ran from where the workload may write, or from memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable_path: bool,
    pub channels: Vec<Channel>,
    /// What left, where that was not always what was asked for: `to ADDRESS:PORT`, `as asked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub translated: Vec<String>,
    /// There were more such places than are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_translated: bool,
}

/// Why a text is not evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("not an evidence file")]
    Json(#[from] serde_json::Error),
    #[error("schema {0:?} is not known to this version; expected {SCHEMA:?}")]
    Schema(String),
}

impl Pointer {
    /// Where the records went.
    #[must_use]
    pub fn place(&self) -> observe::Destination {
        observe::Destination {
            ip: self.to,
            service: self.service.clone(),
        }
    }
}

impl Destination {
    /// Whether an entry for these tools speaks of it: one for any tool always does.
    #[must_use]
    pub fn is_for(&self, tools: Option<&[String]>) -> bool {
        tools.is_none_or(|tools| self.tool.as_ref().is_some_and(|tool| tools.contains(tool)))
    }

    /// Whether it may have been for one of these tools.
    #[must_use]
    pub fn may_be_for(&self, tools: Option<&[String]>) -> bool {
        let is_unknown = self.tools().is_none();
        let is_one = |tools: &[String]| self.suspects().any(|tool| tools.contains(tool));
        is_unknown || tools.is_none_or(is_one)
    }

    /// The tools of which it was for one.
    pub fn suspects(&self) -> impl Iterator<Item = &String> {
        self.tool.iter().chain(&self.one_of_tools)
    }

    /// The same, for people; `None` if nothing is known.
    #[must_use]
    pub fn tools(&self) -> Option<String> {
        let all = Tools::of(self.suspects().map(String::as_str));
        all.map(|tools| tools.to_string())
    }

    /// It once for each tool that it may have been for.
    pub fn by_tool(&self) -> impl Iterator<Item = Cow<'_, Self>> {
        let certain = self.one_of_tools.is_empty().then_some(Cow::Borrowed(self));
        let each = self.one_of_tools.iter().map(|tool| {
            Cow::Owned(Self {
                tool: Some(tool.clone()),
                one_of_tools: Vec::new(),
                ..self.clone()
            })
        });
        certain.into_iter().chain(each)
    }

    /// Whether any attempt was answered. Where nothing is known of an attempt it was not, if it was a
    /// connection that was followed; of what other tools tell nothing is known.
    #[must_use]
    pub fn was_answered(&self) -> Option<bool> {
        let of = |outcome: &Outcome| self.outcomes.get(outcome).copied().unwrap_or(0);
        let sum = |outcomes: &[Outcome]| outcomes.iter().map(of).fold(0, u64::saturating_add);
        // A connection that was reset later was answered first.
        let answered = sum(&[Outcome::Established, Outcome::Reset]) > 0 || self.bytes_received > 0;
        let failed = sum(&[
            Outcome::Refused,
            Outcome::Timeout,
            Outcome::Unreachable,
            Outcome::Blocked,
        ]);
        let unknown = of(&Outcome::Unknown);
        let was_followed = self.channels == [Channel::Connect];
        let has_failed = failed > 0 && unknown == 0 || was_followed && unknown > 0;
        match self.answered {
            _ if answered => Some(true),
            Some(known) => Some(known),
            None => has_failed.then_some(false),
        }
    }

    /// Whether it was reached by this name, or one below this wildcard.
    #[must_use]
    pub fn is_under(&self, to: &Target) -> bool {
        match to {
            Target::Name(name) => self.believed.contains(name),
            Target::Wildcard(_) => {
                let is_below = |name: &String| to.covers(&Target::Name(name.clone()));
                self.believed.iter().any(is_below)
            }
            Target::Address(_) | Target::Network(_) | Target::Published(_) => false,
        }
    }

    /// Where its packets went, as far as the evidence says.
    #[must_use]
    pub fn left(&self) -> Vec<Left> {
        let parse = |left: &String| {
            format!("{} {left}", self.service)
                .parse::<Translation>()
                .ok()
        };
        let places = self.translated.iter().filter_map(parse);
        let places: Vec<Left> = places.map(|translation| translation.left).collect();
        match places.is_empty() {
            true => vec![Left::AsAsked],
            false => places,
        }
    }
}

impl Evidence {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        let evidence: Self = serde_json::from_str(text)?;
        if evidence.schema != SCHEMA {
            return Err(EvidenceError::Schema(evidence.schema));
        }
        Ok(evidence)
    }

    /// The file's text: the same evidence gives the same bytes.
    pub fn to_text(&self) -> Result<String, EvidenceError> {
        let mut text = harmless::pretty_json(self)?;
        text.push('\n');
        Ok(text)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Services as policies write them: `443/tcp`.
mod service_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::policy::model::Service;

    pub(super) fn serialize<S: Serializer>(
        service: &Service,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(service)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Service, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
