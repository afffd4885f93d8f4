//! What one line says: a record of ours, another tool's event, or just a destination.

use serde::Deserialize;

use crate::{
    import::{
        destination_line::{self, DestinationLine},
        tools::{self, Marks, Told},
    },
    record::{self, Record},
};

/// The types of records that this version knows.
const TYPES: [&str; 9] = [
    "flow", "gap", "alias", "stats", "rotate", "start", "stop", "dns", "drift",
];

/// One line, understood.
#[derive(Debug)]
pub(super) enum Parsed {
    Record(Box<Record>),
    /// `dest_ip` and `dest_port`, in whatever log.
    Destination(DestinationLine),
    /// A line of a tool whose logs are known.
    Told(Told),
    /// Ours, of a type that a later version writes.
    UnknownType,
}

/// What tells whose line it is.
#[derive(Deserialize)]
struct Probe {
    schema: Option<serde_json::Value>,
    #[serde(rename = "type")]
    kind: Option<serde_json::Value>,
}

/// Understands a line, or says why not.
pub(super) fn parse(line: &[u8]) -> Result<Parsed, String> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("not a JSON object".to_owned());
    }
    let marks: Marks = serde_json::from_slice(line).map_err(|error| json_reason(&error))?;
    if marks.schema.is_some() {
        return with_schema(line);
    }
    match marks.tool() {
        Some(tool) => tools::parse(tool, line).map(Parsed::Told),
        None => destination_line::parse(line).map(Parsed::Destination),
    }
}

fn with_schema(line: &[u8]) -> Result<Parsed, String> {
    let not_ours = match serde_json::from_slice::<Record>(line) {
        Ok(record) if schema_of(&record) == record::SCHEMA => {
            return Ok(Parsed::Record(Box::new(record)));
        }
        Ok(record) => return Err(unknown_schema(schema_of(&record))),
        Err(error) => error,
    };
    let probe: Probe = serde_json::from_slice(line).map_err(|error| json_reason(&error))?;
    let schema = probe.schema.as_ref().and_then(|schema| schema.as_str());
    let kind = probe.kind.as_ref().and_then(|kind| kind.as_str());
    match (schema, kind) {
        (Some(record::SCHEMA), Some(kind)) if !TYPES.contains(&kind) => Ok(Parsed::UnknownType),
        (Some(record::SCHEMA), _) => Err(json_reason(&not_ours)),
        (Some(other), _) => Err(unknown_schema(other)),
        (None, _) => destination_line::parse(line).map(Parsed::Destination),
    }
}

fn unknown_schema(schema: &str) -> String {
    format!(
        "schema {schema:?} is not known to this version; it reads {:?}",
        record::SCHEMA
    )
}

/// The parser's words without its place: every input line is line 1 to it.
pub(super) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (reason, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    // A workload can make the offending word as long as a line.
    let mut reason: String = reason.chars().take(200).collect();
    if reason.len() < text.len() && reason.chars().count() == 200 {
        reason.push('…');
    }
    reason
}

fn schema_of(record: &Record) -> &str {
    match record {
        Record::Flow(entry) => &entry.schema,
        Record::Gap(entry) => &entry.schema,
        Record::Alias(entry) => &entry.schema,
        Record::Stats(entry) => &entry.schema,
        Record::Rotate(entry) => &entry.schema,
        Record::Start(entry) => &entry.schema,
        Record::Stop(entry) => &entry.schema,
        Record::Dns(entry) => &entry.schema,
        Record::Drift(entry) => &entry.schema,
        Record::Registered(entry) => &entry.schema,
    }
}
