//! OpenTelemetry spans: which tool, model or retriever an agent says it was using, and when.
//!
//! Pure: bytes to spans, spans to what a flow may belong to. A span tells a time, not a connection:
//! what it says of a flow is never more than that it was the only one it can have been.
//!
//! | file | defines |
//! |---|---|
//! | `json` | OTLP as JSON |
//! | `protobuf` | OTLP as protobuf |
//! | `book` | spans that are remembered, and the flows that fall into them |
//! | `flow` | what they say of a flow, as a record says it |
//!
//! Attributes are those of the semantic conventions for generative AI, for MCP and for resources.

pub mod book;
pub mod flow;
pub mod json;
#[cfg(feature = "capture")]
pub mod protobuf;
#[cfg(all(test, feature = "capture"))]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;

/// Spans that are taken out of one request.
const MOST_AT_ONCE: usize = 8192;
/// Names and ids are cut to this many bytes.
const LONGEST: usize = 128;

/// What happened between two points in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub kind: Kind,
    /// Of the tool, the model or the retriever.
    pub name: String,
    /// The call's own id where the agent gave one, else the span's.
    pub call_id: String,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    pub end_ns: u64,
    pub id: u64,
    /// The span that this one is a part of; 0 if none.
    pub parent: u64,
    pub resource: Resource,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tool,
    Llm,
    Retriever,
}

/// Who did it, as far as its exporter said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub container_id: Option<String>,
    /// As the process itself sees it.
    pub pid: Option<u32>,
    pub pod_uid: Option<String>,
    pub service: Option<String>,
}

/// What bytes hold: the spans of generative AI, and how many others there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub spans: Vec<Span>,
    /// Spans about something else.
    pub others: u64,
    /// Spans that end before they begin, have no time, or are too many for one request.
    pub damaged: u64,
    /// Of those, the ones that are too many.
    pub too_many: u64,
}

/// Bytes that are no OTLP.
#[derive(Debug, thiserror::Error)]
pub enum NoSpans {
    #[error("not OTLP as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[cfg(feature = "capture")]
    #[error("not OTLP as protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// An attribute's value, as far as it is of interest.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

/// A span before it is known what it is about.
#[derive(Default)]
struct Raw<'a> {
    name: &'a str,
    id: u64,
    parent: u64,
    start_ns: u64,
    end_ns: u64,
    attributes: Vec<(&'a str, Value<'a>)>,
}

impl Decoded {
    fn take(&mut self, raw: &Raw<'_>, resource: &Resource) {
        let Some((kind, name)) = subject(raw) else {
            self.others += 1;
            return;
        };
        let is_full = self.spans.len() >= MOST_AT_ONCE;
        self.too_many += u64::from(is_full);
        if is_full || raw.start_ns == 0 || raw.end_ns < raw.start_ns {
            self.damaged += 1;
            return;
        }
        let call_id = raw.text("gen_ai.tool.call.id");
        self.spans.push(Span {
            kind,
            name: cut(name),
            call_id: call_id.map_or_else(|| format!("{:016x}", raw.id), cut),
            start_ns: raw.start_ns,
            end_ns: raw.end_ns,
            id: raw.id,
            parent: raw.parent,
            resource: resource.clone(),
        });
    }
}

impl<'a> Raw<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        text(&self.attributes, key)
    }
}

impl Resource {
    fn of(attributes: &[(&str, Value<'_>)]) -> Self {
        let owned = |key| text(attributes, key).map(cut);
        let pid = attributes.iter().find_map(|(key, value)| match value {
            Value::Number(number) if *key == "process.pid" => u32::try_from(*number).ok(),
            Value::Number(_) | Value::Text(_) => None,
        });
        Self {
            container_id: owned("container.id"),
            pid,
            pod_uid: owned("k8s.pod.uid"),
            // What an SDK says where nobody has told it.
            service: owned("service.name").filter(|name| !name.starts_with("unknown_service")),
        }
    }
}

/// What a span is about, by its operation: its name is for people.
fn subject<'a>(raw: &Raw<'a>) -> Option<(Kind, &'a str)> {
    let tool = raw.text("gen_ai.tool.name");
    let model = raw.text("gen_ai.request.model");
    match raw.text("gen_ai.operation.name") {
        Some("execute_tool") => Some((Kind::Tool, tool.unwrap_or(raw.name))),
        Some("chat" | "text_completion" | "generate_content" | "embeddings") => {
            Some((Kind::Llm, model.unwrap_or(raw.name)))
        }
        Some("retrieval") => {
            let source = raw.text("gen_ai.data_source.id");
            Some((Kind::Retriever, source.unwrap_or(raw.name)))
        }
        // Agents and workflows: what they do has spans of its own.
        Some(_) => None,
        None if raw.text("mcp.method.name") == Some("tools/call") => Some((Kind::Tool, tool?)),
        None => None,
    }
}

fn text<'a>(attributes: &[(&str, Value<'a>)], key: &str) -> Option<&'a str> {
    attributes.iter().find_map(|(name, value)| match value {
        Value::Text(text) if *name == key && !text.is_empty() => Some(*text),
        Value::Text(_) | Value::Number(_) => None,
    })
}

/// At most [`LONGEST`] bytes of it, whole characters.
fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
