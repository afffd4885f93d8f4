//! What was seen of one destination: figures that merge in any order and grouping.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    policy::{believed::Believed, tools::Tools, translation::Left},
    record::{
        Channel, Container, Flow, Name, Outcome, Process, RewrittenBy, Role, Translated, Via,
    },
};

/// How many names are kept per destination.
const MAX_NAMES: usize = 64;
/// How many places are kept to which one destination was rewritten.
const MAX_LEFT: usize = 64;

/// The figures of one destination and service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The runs in which it was seen.
    pub runs: BTreeSet<Arc<str>>,
    /// How many records told of it.
    pub records: u64,
    /// The sum of their counts.
    pub count: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Absent when no record said.
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub processes: ProcessNames,
    /// Command lines, and containers: examples for people.
    pub commands: Examples,
    pub containers: Examples,
    pub names: Names,
    /// Of several the lowest.
    pub role: Option<Role>,
    /// The other containers that had the address.
    pub peers: ProcessNames,
    /// The container engine's resolver asked on the workload's behalf.
    pub via_engine: bool,
    /// A process ran from where the workload may write, or from memory.
    pub writable_path: bool,
    pub channels: BTreeSet<Channel>,
    pub answers: Answers,
    pub left: LeftPlaces,
    /// By which names it may be allowed: the same for all that was counted in.
    pub believed: Believed,
    /// For which of the agent's tools: the same for all that was counted in. Absent where unknown.
    pub tool: Option<Tools>,
}

/// Whether datagrams were answered, as far as records say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// One was.
    heard: bool,
    /// Of some that left nobody says.
    untold: bool,
}

impl Answers {
    /// `None` where it is not known of all.
    #[must_use]
    pub fn known(self) -> Option<bool> {
        match (self.heard, self.untold) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        }
    }

    fn add(&mut self, figures: &Figures<'_>) {
        self.heard |= figures.answered == Some(true);
        self.untold |= figures.answered.is_none() && figures.count > 0;
    }

    fn merge(&mut self, other: Self) {
        self.heard |= other.heard;
        self.untold |= other.untold;
    }
}

/// The figures of one record.
#[derive(Clone, Debug)]
pub struct Figures<'a> {
    pub count: u64,
    pub outcomes: Option<&'a BTreeMap<Outcome, u64>>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub process: Option<&'a str>,
    pub who: Who<'a>,
    pub names: &'a [Name],
    pub role: Option<Role>,
    pub peer: Option<&'a str>,
    pub via_engine: bool,
    /// The process ran from where the workload may write, or from memory.
    pub writable_path: bool,
    pub channel: Channel,
    /// Of datagrams: whether one came back; `None`: the record does not say.
    pub answered: Option<bool>,
    /// Where packets went; `None`: the record does not say.
    pub left: Option<Left>,
    /// The agent's tool, or those of which it is one.
    pub tool: Option<Tools>,
}

/// Who it was, as people want to be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Arguments; empty: unknown.
    pub cmdline: &'a [String],
    pub container: Option<&'a Container>,
}

impl Figures<'_> {
    /// One attempt of which nothing else is known.
    #[must_use]
    pub fn once(channel: Channel) -> Self {
        Self {
            count: 1,
            outcomes: None,
            bytes_sent: 0,
            bytes_received: 0,
            first_seen: None,
            last_seen: None,
            process: None,
            who: Who::default(),
            names: &[],
            role: None,
            peer: None,
            via_engine: false,
            writable_path: false,
            channel,
            answered: None,
            left: None,
            tool: None,
        }
    }
}

fn lowest(one: Option<Role>, other: Option<Role>) -> Option<Role> {
    one.into_iter().chain(other).min()
}

impl<'a> From<&'a Flow> for Figures<'a> {
    fn from(flow: &'a Flow) -> Self {
        Self {
            count: flow.count,
            outcomes: Some(&flow.outcomes),
            bytes_sent: flow.bytes_sent.unwrap_or(0),
            bytes_received: flow.bytes_received.unwrap_or(0),
            first_seen: Some(flow.first_seen),
            last_seen: Some(flow.last_seen),
            process: process_name(&flow.process),
            who: Who {
                cmdline: &flow.process.cmdline,
                container: flow.container.as_ref(),
            },
            names: &flow.names,
            role: flow.role,
            peer: flow.peer.as_deref(),
            via_engine: flow.via == Some(Via::Engine),
            writable_path: flow.process.exe.as_deref().is_some_and(is_writable),
            channel: flow.channel,
            answered: flow.answered,
            left: match flow.translated {
                Some(Translated { ip, port, by }) => Some(match by {
                    None => Left::To { ip, port },
                    Some(RewrittenBy::Host) => Left::ByHost { ip, port },
                }),
                // Of what was counted in another record, only that one says where it went.
                None => (flow.count > 0).then_some(Left::AsAsked),
            },
            tool: flow.tool.as_ref().and_then(Tools::told),
        }
    }
}

impl Seen {
    /// Counts one record in.
    pub fn add(&mut self, run: &Arc<str>, figures: &Figures<'_>) {
        // A record without a run is evidence all the same.
        if !run.is_empty() && !self.runs.contains(run) {
            self.runs.insert(Arc::clone(run));
        }
        self.records = self.records.saturating_add(1);
        self.count = self.count.saturating_add(figures.count);
        if let Some(outcomes) = figures.outcomes {
            add_all(&mut self.outcomes, outcomes);
        }
        self.bytes_sent = self.bytes_sent.saturating_add(figures.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(figures.bytes_received);
        self.first_seen = earlier(self.first_seen, figures.first_seen);
        self.last_seen = self.last_seen.max(figures.last_seen);
        if let Some(name) = figures.process {
            self.processes.add(name);
        }
        if !figures.who.cmdline.is_empty() {
            self.commands.add(&figures.who.cmdline.join(" "));
        }
        if let Some(container) = figures.who.container {
            self.containers.add(&container_text(container));
        }
        figures.names.iter().for_each(|name| self.names.add(name));
        self.role = lowest(self.role, figures.role);
        if let Some(peer) = figures.peer {
            self.peers.add(peer);
        }
        self.via_engine |= figures.via_engine;
        self.writable_path |= figures.writable_path;
        self.channels.insert(figures.channel);
        self.answers.add(figures);
        self.left.places.extend(figures.left);
        self.left.cut();
    }

    /// Whether it is known of every attempt that it failed: such a destination is not wanted in a
    /// policy, where it would allow what has never worked. Where nothing is known of an attempt, or
    /// of a datagram, this does not hold.
    #[must_use]
    pub fn never_succeeded(&self) -> bool {
        let known: u64 = self.outcomes.values().sum();
        let has_failed = |outcome: &Outcome| match outcome {
            Outcome::Refused | Outcome::Timeout | Outcome::Unreachable | Outcome::Blocked => true,
            Outcome::Established | Outcome::Reset | Outcome::Unknown => false,
        };
        let mut told = self.outcomes.iter().filter(|(_, count)| **count > 0);
        known > 0
            && known >= self.count
            && self.bytes_received == 0
            && told.all(|(outcome, _)| has_failed(outcome))
    }

    /// Counts in what was seen elsewhere of the same destination.
    pub fn merge(&mut self, other: &Self) {
        self.runs.extend(other.runs.iter().cloned());
        self.records = self.records.saturating_add(other.records);
        self.count = self.count.saturating_add(other.count);
        add_all(&mut self.outcomes, &other.outcomes);
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.first_seen = earlier(self.first_seen, other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.processes.merge(&other.processes);
        self.commands.merge(&other.commands);
        self.containers.merge(&other.containers);
        self.names.merge(&other.names);
        self.role = lowest(self.role, other.role);
        self.peers.merge(&other.peers);
        self.via_engine |= other.via_engine;
        self.writable_path |= other.writable_path;
        self.channels.extend(&other.channels);
        self.answers.merge(other.answers);
        self.left.places.extend(&other.left.places);
        self.left.more |= other.left.more;
        self.left.cut();
    }
}

fn add_all(sums: &mut BTreeMap<Outcome, u64>, more: &BTreeMap<Outcome, u64>) {
    for (&outcome, &count) in more {
        let sum = sums.entry(outcome).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// The earlier of two times, where an unknown time says nothing.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a process is called in evidence: its executable's file name, else its `comm`.
pub(super) fn process_name(process: &Process) -> Option<&str> {
    let exe = process.exe.as_deref().map(|path| {
        // The kernel marks a replaced executable; a rebuild is not another process.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        path.rsplit('/').next().unwrap_or(path)
    });
    exe.filter(|name| !name.is_empty())
        .or(process.comm.as_deref())
        .filter(|name| !name.is_empty())
}

/// `namespace/pod name (image)`, as far as it is known.
fn container_text(container: &Container) -> String {
    let pod = container
        .pod
        .as_ref()
        .map(|pod| match &container.namespace {
            Some(namespace) => format!("{namespace}/{pod}"),
            None => pod.clone(),
        });
    let name = container.name.as_ref().unwrap_or(&container.id).clone();
    let image = container.image.as_ref().map(|image| format!("({image})"));
    let parts: Vec<String> = [pod, Some(name), image].into_iter().flatten().collect();
    parts.join(" ")
}

/// Whether an executable lies where everybody may write, in memory only, or is gone. An executable
/// that was replaced while it ran reads as gone as well: a package upgrade does that.
fn is_writable(exe: &str) -> bool {
    const PLACES: [&str; 5] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/", "/memfd:"];
    PLACES.iter().any(|place| exe.starts_with(place)) || exe.ends_with(" (deleted)")
}

/// File names of executables, else `comm`.
pub type ProcessNames = Texts<32, 64>;
/// Few: they are long, and nothing is decided by them.
pub type Examples = Texts<4, 200>;

/// A set of at most `KEPT` texts, each cut at `BYTES`: the first ones in sorted order, so that merging
/// stays order-free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts<const KEPT: usize, const BYTES: usize> {
    texts: BTreeSet<String>,
    more: bool,
}

impl<const KEPT: usize, const BYTES: usize> Texts<KEPT, BYTES> {
    /// The texts kept, sorted.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.texts.iter().map(String::as_str)
    }

    /// Whether there were more than are kept.
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    pub(super) fn add(&mut self, text: &str) {
        let text = cut_at(text, BYTES);
        if self.texts.contains(text) {
            return;
        }
        self.texts.insert(text.to_owned());
        self.cut();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.more |= other.more;
        self.texts.extend(other.texts.iter().cloned());
        self.cut();
    }

    fn cut(&mut self) {
        while self.texts.len() > KEPT {
            self.texts.pop_last();
            self.more = true;
        }
    }
}

/// A bounded set of places to which packets went, kept as [`ProcessNames`] are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftPlaces {
    places: BTreeSet<Left>,
    more: bool,
}

impl LeftPlaces {
    /// The places kept, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Left> {
        self.places.iter()
    }

    /// Whether nothing was ever rewritten.
    #[must_use]
    pub fn is_only_as_asked(&self) -> bool {
        self.places.iter().all(|left| *left == Left::AsAsked)
    }

    /// Whether there were more places than are kept.
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    fn cut(&mut self) {
        while self.places.len() > MAX_LEFT {
            self.places.pop_last();
            self.more = true;
        }
    }
}

/// The names of a destination, bounded likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    names: BTreeSet<Name>,
    more: bool,
}

impl Names {
    /// The names kept, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.names.iter()
    }

    /// Whether there were more names than are kept.
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    fn add(&mut self, name: &Name) {
        if !self.names.contains(name) {
            self.names.insert(name.clone());
            self.cut();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.more |= other.more;
        self.names.extend(other.names.iter().cloned());
        self.cut();
    }

    fn cut(&mut self) {
        while self.names.len() > MAX_NAMES {
            self.names.pop_last();
            self.more = true;
        }
    }
}

/// The longest start of `text` that fits into `bytes`.
fn cut_at(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_after_its_executable() {
        let mut process = Process {
            comm: Some("worker-1".into()),
            exe: Some("/usr/bin/python3.12 (deleted)".into()),
            ..Process::default()
        };
        assert_eq!(process_name(&process), Some("python3.12"));
        process.exe = None;
        assert_eq!(process_name(&process), Some("worker-1"));
        process.comm = Some(String::new());
        assert_eq!(process_name(&process), None);
    }

    #[test]
    fn executables_that_anybody_may_write_are_told() {
        for exe in [
            "/tmp/x",
            "/dev/shm/a/b",
            "/memfd:payload (deleted)",
            "/usr/bin/a (deleted)",
        ] {
            assert!(is_writable(exe), "{exe}");
        }
        for exe in ["/usr/bin/python3", "/opt/tmp/x", "/tmpfile"] {
            assert!(!is_writable(exe), "{exe}");
        }
    }

    #[test]
    fn process_names_are_bounded_whatever_the_order() {
        let names: Vec<String> = (0..100).map(|n| format!("p{n:02}")).collect();
        let (mut up, mut down) = (ProcessNames::default(), ProcessNames::default());
        names.iter().for_each(|name| up.add(name));
        names.iter().rev().for_each(|name| down.add(name));
        assert_eq!(up, down);
        assert!(up.more());
        assert_eq!(up.iter().next_back().unwrap(), "p31");
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut names = ProcessNames::default();
        names.add(&"é".repeat(60));
        assert_eq!(names.iter().next().unwrap().len(), 64);
    }
}
