//! Spans that are remembered, and what they say about a flow.

use std::collections::{BTreeMap, HashSet};

use super::{Resource, Span};

/// Spans that are remembered at once: of 1,000 calls a second those of a minute.
pub const MOST_SPANS: usize = 65_536;
/// Spans that a flow is compared with: of more, it was one of many.
const MOST_TOUCHING: usize = 1024;

/// Spans, bounded.
#[derive(Debug, Default)]
pub struct Book {
    /// By start and a running number.
    spans: BTreeMap<(u64, u64), Span>,
    next: u64,
    /// The longest of them, in nanoseconds: how far back one may begin that still goes on.
    longest_ns: u64,
    /// Spans that gave way to newer ones.
    pub given_way: u64,
}

/// A flow, as far as spans can be about it.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// First and last observation, nanoseconds since 1970.
    pub first_ns: u64,
    pub last_ns: u64,
    pub workload: &'a str,
    pub container_id: Option<&'a str>,
    pub pod_uid: Option<&'a str>,
    /// The sender's process id and those of its ancestors, on the host.
    pub pids: Vec<u32>,
    /// There are more ancestors, or they are not known.
    pub pids_cut: bool,
    /// The sender's own process id inside its container, where that is another.
    pub ns_pid: Option<u32>,
    /// Whether everything recorded is one command's: then time alone is enough.
    pub is_one_command: bool,
}

/// Which spans a flow falls into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    None,
    /// One covers all of it, and no other touches it but those that this one is a part of.
    One(&'a Span),
    /// It was one of these, the earliest first.
    Several {
        among: Vec<&'a Span>,
        /// For a part of the time none of them was open.
        or_none: bool,
    },
}

impl Book {
    /// Remembers spans. Where there are too many, those that began first give way.
    pub fn add(&mut self, spans: impl IntoIterator<Item = Span>) {
        for span in spans {
            self.longest_ns = self.longest_ns.max(span.end_ns - span.start_ns);
            self.spans.insert((span.start_ns, self.next), span);
            self.next += 1;
            if self.spans.len() > MOST_SPANS {
                self.spans.pop_first();
                self.given_way += 1;
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Forgets what ended before `time_ns`.
    pub fn forget_before(&mut self, time_ns: u64) {
        let mut longest_ns = 0;
        self.spans.retain(|_, span| {
            let is_kept = span.end_ns >= time_ns;
            if is_kept {
                longest_ns = longest_ns.max(span.end_ns - span.start_ns);
            }
            is_kept
        });
        self.longest_ns = longest_ns;
    }

    /// What a flow falls into.
    #[must_use]
    pub fn find(&self, subject: &Subject<'_>) -> Match<'_> {
        let earliest = subject.first_ns.saturating_sub(self.longest_ns);
        let touching: Vec<&Span> = self
            .spans
            .range((earliest, 0)..=(subject.last_ns, u64::MAX))
            .map(|(_, span)| span)
            .filter(|span| span.end_ns >= subject.first_ns && is_about(&span.resource, subject))
            .take(MOST_TOUCHING + 1)
            .collect();
        if touching.len() > MOST_TOUCHING {
            return Match::Several {
                among: touching,
                or_none: false,
            };
        }
        let with_parts = with_parts(&touching, subject);
        let innermost: Vec<&Span> = touching
            .iter()
            .copied()
            .filter(|span| !with_parts.contains(&span.id))
            .collect();
        match innermost.as_slice() {
            [] => Match::None,
            [one] if covers(one, subject) => Match::One(one),
            several => Match::Several {
                or_none: !are_covering(several, subject),
                among: innermost,
            },
        }
    }
}

fn covers(span: &Span, subject: &Subject<'_>) -> bool {
    span.start_ns <= subject.first_ns && subject.last_ns <= span.end_ns
}

/// The spans that have a part which is open during all of the flow: it is that part's. Two levels are
/// enough: a tool, its MCP request, a model that it asks.
fn with_parts(all: &[&Span], subject: &Subject<'_>) -> HashSet<u64> {
    let parts = || {
        let is_part = |span: &&&Span| span.parent != 0 && span.parent != span.id;
        all.iter().filter(is_part)
    };
    let covering = parts().filter(|part| covers(part, subject));
    let direct: HashSet<u64> = covering.map(|part| part.parent).collect();
    let further = parts().filter(|part| direct.contains(&part.id));
    let further: HashSet<u64> = further.map(|part| part.parent).collect();
    &direct | &further
}

/// Whether at any time of the flow one of them was open. They are sorted by start.
fn are_covering(spans: &[&Span], subject: &Subject<'_>) -> bool {
    let mut covered_to = subject.first_ns;
    for span in spans {
        if span.start_ns > covered_to {
            return false;
        }
        covered_to = covered_to.max(span.end_ns);
    }
    covered_to >= subject.last_ns
}

/// Whether who told the span can have sent the flow. One that says nothing of itself is believed
/// only where nobody else is recorded.
fn is_about(resource: &Resource, subject: &Subject<'_>) -> bool {
    if let Some(id) = &resource.container_id {
        return subject.container_id.is_some_and(|known| is_same(id, known));
    }
    if let Some(uid) = &resource.pod_uid {
        return subject.pod_uid == Some(uid);
    }
    if let Some(pid) = resource.pid
        && subject.ns_pid.is_none()
    {
        if subject.pids.contains(&pid) {
            return true;
        }
        if !subject.pids_cut {
            return false;
        }
    }
    let is_service = resource.service.as_deref() == Some(subject.workload);
    subject.is_one_command || is_service
}

/// Ids may be cut to 12 digits or more.
fn is_same(told: &str, known: &str) -> bool {
    told.len() >= 12 && known.starts_with(told)
}
