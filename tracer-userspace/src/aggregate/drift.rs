//! Drift as it happens: each destination of a workload is held against the workload's policy, once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tokio::sync::{mpsc, watch};
use tracer_common::flow::FlowKey;

use crate::{
    analysis::drift::{self, Kind, Level},
    ebpf::batch::Command,
    harmless,
    output::{terminal, webhook::Webhook},
    policy::{Observations, infer, model::Policy, tools::Tools},
    record::{Drift, DriftKind, Flow, Name, Record, Translated, ip_from_mapped},
};

/// Destinations of one workload that are told one by one. Beyond it they are counted.
const MAX_TOLD: usize = 4096;
/// What was judged before is forgotten beyond this many: it is judged again.
const MAX_JUDGED: usize = 65_536;

/// Each workload's policy, with its bases.
pub type Policies = BTreeMap<String, Policy>;

/// Judges flows. One per daemon.
#[derive(Debug)]
pub struct Watch {
    /// The policies as they are read anew whenever their files change.
    policies: watch::Receiver<Arc<Policies>>,
    webhook: Option<Webhook>,
    /// Where a sweep out of turn is asked for.
    commands: mpsc::Sender<Command>,
    /// Something was heard of that was not judged before.
    has_news: bool,
    today: Date,
    workloads: HashMap<Arc<str>, Known>,
    /// What needs no hurry: judged, by cgroup.
    calm: HashSet<(u64, Place)>,
    counters: Counters,
}

/// What was judged of one workload.
#[derive(Debug, Default)]
struct Known {
    judged: BTreeSet<Question>,
    told: BTreeSet<(DriftKind, Place, Option<Translated>, Option<Who>)>,
    /// Beyond [`MAX_TOLD`], since the last gap.
    untold: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    told: u64,
    untold: u64,
    without_policy: u64,
}

type Place = (Option<IpAddr>, u8, Option<u16>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    place: Place,
    translated: Option<Translated>,
    names: Vec<Name>,
    who: Who,
}

/// The executable and the agent's tool: approvals may be for some alone.
type Who = (Option<String>, Option<Tools>);

impl Watch {
    #[must_use]
    pub fn new(
        policies: watch::Receiver<Arc<Policies>>,
        webhook: Option<Webhook>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            policies,
            webhook,
            commands,
            has_news: false,
            today: Date::ZERO,
            workloads: HashMap::new(),
            calm: HashSet::new(),
            counters: Counters::default(),
        }
    }

    /// A flow is new to the kernel: unless its like was judged before, it is to be told at once
    /// rather than at the end of the interval.
    pub fn hear(&mut self, key: &FlowKey) {
        let protocol = u8::try_from(key.protocol).unwrap_or(u8::MAX);
        let address = ip_from_mapped(key.address);
        let is_calm = |port| {
            let place = (Some(address), protocol, port);
            self.calm.contains(&(key.cgroup_id, place))
        };
        self.has_news |= ![Some(key.port), None].into_iter().any(is_calm);
    }

    /// Asks for a sweep if there is news. Once for a batch: it is the reading task that sees to it
    /// that they are not too many.
    pub fn ask(&mut self) {
        if std::mem::take(&mut self.has_news) {
            // A full channel is busy enough: the interval's sweep comes.
            let _busy = self.commands.try_send(Command::Sweep);
        }
    }

    /// What is to be told of a flow that was just written. `None` if it is approved, is no egress,
    /// or was told before.
    pub fn judge(&mut self, workload: &Arc<str>, record: &Record) -> Option<Drift> {
        let Record::Flow(entry) = record else {
            return None;
        };
        self.renew();
        let flow = &*entry.body;
        if let Some(cgroup) = flow.cgroup_id {
            if self.calm.len() >= MAX_JUDGED {
                self.calm.clear();
            }
            self.calm.insert((cgroup, place(flow)));
        }
        let policies = Arc::clone(&self.policies.borrow());
        if !self.workloads.contains_key(workload) && !policies.contains_key(&**workload) {
            self.counters.without_policy += 1;
            tracing::info!(workload = %terminal::escape(workload), "no policy: its drift is not told");
        }
        let known = self.workloads.entry(Arc::clone(workload)).or_default();
        let policy = policies.get(&**workload)?;
        if !known.is_new(flow) {
            return None;
        }
        let drift = found(policy, record, self.today)?;
        match known.may_tell(&drift, flow) {
            Telling::Now => self.counters.told += 1,
            Telling::Before => return None,
            Telling::TooMany => {
                self.counters.untold += 1;
                return None;
            }
        }
        Some(drift)
    }

    /// Tells the log of this process, and the web hook.
    pub fn announce(&self, workload: &str, record: &Record, drift: &Drift) {
        let process = drift
            .process
            .exe
            .as_deref()
            .or(drift.process.comm.as_deref());
        tracing::warn!(
            "drift: workload {} {}: {} {} by {}",
            terminal::escape(workload),
            drift.kind.word(),
            drift.to,
            terminal::escape(&drift.service),
            terminal::escape(process.unwrap_or("an unknown process")),
        );
        let Some(webhook) = &self.webhook else { return };
        match harmless::json(record) {
            Ok(body) => webhook.post(body),
            Err(error) => tracing::warn!("cannot tell the web hook: {error}"),
        }
    }

    /// How many destinations of each workload were not told one by one, since the last call.
    pub fn take_untold(&mut self) -> Vec<(Arc<str>, u64)> {
        let all = self.workloads.iter_mut();
        all.map(|(name, known)| (Arc::clone(name), std::mem::take(&mut known.untold)))
            .filter(|(_, untold)| *untold > 0)
            .collect()
    }

    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let lost = self.webhook.as_ref().map_or(0, Webhook::lost);
        vec![
            ("drift_told", self.counters.told),
            ("drift_untold", self.counters.untold),
            ("workloads_without_policy", self.counters.without_policy),
            ("webhook_lost", lost),
        ]
    }

    /// Lets the web hook deliver what it has, for a while.
    pub async fn end(self) {
        if let Some(webhook) = self.webhook {
            webhook.end().await;
        }
    }

    /// A decision, or the end of an approval, makes every judgement a new one.
    fn renew(&mut self) {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let is_decided = self.policies.has_changed().unwrap_or(false);
        if is_decided {
            self.policies.mark_unchanged();
            self.workloads.clear();
            self.calm.clear();
        }
        if today != self.today {
            self.today = today;
            for known in self.workloads.values_mut() {
                known.judged.clear();
            }
        }
    }
}

enum Telling {
    Now,
    Before,
    TooMany,
}

impl Known {
    fn is_new(&mut self, flow: &Flow) -> bool {
        if self.judged.len() >= MAX_JUDGED {
            self.judged.clear();
        }
        self.judged.insert(Question {
            place: place(flow),
            translated: flow.translated,
            names: flow.names.clone(),
            who: who(flow),
        })
    }

    fn may_tell(&mut self, drift: &Drift, flow: &Flow) -> Telling {
        // What nobody may do is told once, and what only some may, for each of the others.
        let who = (drift.kind == DriftKind::Changed).then(|| who(flow));
        let told = (drift.kind, place(flow), flow.translated, who);
        if self.told.contains(&told) {
            return Telling::Before;
        }
        if self.told.len() >= MAX_TOLD {
            self.untold += 1;
            return Telling::TooMany;
        }
        self.told.insert(told);
        Telling::Now
    }
}

fn place(flow: &Flow) -> Place {
    (flow.dest_ip, flow.protocol.0, flow.dest_port)
}

fn who(flow: &Flow) -> Who {
    let process = flow.process.exe.as_ref().or(flow.process.comm.as_ref());
    let tools = flow.tool.as_ref().and_then(Tools::told);
    (process.cloned(), tools)
}

/// What `diff` would say of a log that has this record alone.
fn found(policy: &Policy, record: &Record, today: Date) -> Option<Drift> {
    let Record::Flow(entry) = record else {
        return None;
    };
    let mut observations = Observations::new(policy.workload.clone(), 1);
    observations.observe(record);
    let evidence = infer::evidence(&observations);
    let all = drift::drift(policy, &evidence, today, 0);
    let worst = all.into_iter().find(|each| each.level == Level::Error)?;
    let flow = &*entry.body;
    Some(Drift {
        kind: kind(worst.kind)?,
        to: flow.dest_ip?,
        service: worst.service,
        detail: worst.detail,
        translated: flow.translated,
        names: flow.names.clone(),
        process: flow.process.clone(),
        container: flow.container.clone(),
    })
}

/// What is soon over, or was not seen, does not happen at a moment.
fn kind(kind: Kind) -> Option<DriftKind> {
    match kind {
        Kind::Denied => Some(DriftKind::Denied),
        Kind::New => Some(DriftKind::New),
        Kind::Changed => Some(DriftKind::Changed),
        Kind::Unreviewed => Some(DriftKind::Unreviewed),
        Kind::Expired => Some(DriftKind::Expired),
        Kind::Expiring | Kind::Stale => None,
    }
}
