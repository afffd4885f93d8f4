//! What spans say of a flow, as its record says it.

use jiff::Timestamp;

use super::{
    Kind, Span,
    book::{Book, Match, Subject},
};
use crate::record::{Attribution, Flow, Tool, ToolCall, ToolKind};

/// Calls that a record names.
const MOST_AMONG: usize = 16;

/// Whose call a flow was, as far as times tell. `is_one_command`: everything recorded is.
#[must_use]
pub fn tool(book: &Book, flow: &Flow, workload: &str, is_one_command: bool) -> Option<Tool> {
    match book.find(&subject(flow, workload, is_one_command)) {
        Match::None => None,
        Match::One(span) => Some(Tool {
            name: Some(span.name.clone()),
            call_id: Some(span.call_id.clone()),
            kind: Some(kind(span.kind)),
            attribution: Attribution::Window,
            among_cut: false,
            ..Tool::unknown()
        }),
        Match::Several { among, or_none } => Some(Tool {
            among_cut: among.len() > MOST_AMONG,
            among: among.into_iter().take(MOST_AMONG).map(call).collect(),
            or_none,
            ..Tool::unknown()
        }),
    }
}

fn subject<'a>(flow: &'a Flow, workload: &'a str, is_one_command: bool) -> Subject<'a> {
    let process = &flow.process;
    let ancestors = process.ancestors.iter().map(|ancestor| ancestor.pid);
    let container = flow.container.as_ref();
    Subject {
        first_ns: nanoseconds(flow.first_seen),
        last_ns: nanoseconds(flow.last_seen),
        workload,
        container_id: container.map(|container| &*container.id),
        pod_uid: container.and_then(|container| container.pod_uid.as_deref()),
        pids: process.pid.into_iter().chain(ancestors).collect(),
        pids_cut: process.ancestors_cut,
        ns_pid: process.ns_pid,
        is_one_command,
    }
}

/// Since 1970.
#[must_use]
pub fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

fn call(span: &Span) -> ToolCall {
    ToolCall {
        name: span.name.clone(),
        call_id: span.call_id.clone(),
    }
}

fn kind(kind: Kind) -> ToolKind {
    match kind {
        Kind::Tool => ToolKind::Tool,
        Kind::Llm => ToolKind::Llm,
        Kind::Retriever => ToolKind::Retriever,
    }
}
