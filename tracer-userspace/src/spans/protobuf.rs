//! OTLP as protobuf: of `opentelemetry/proto/{collector/trace,trace,resource,common}/v1` those fields
//! that tell what was done, when and by whom. Whatever else is in a message is skipped unread.

use prost::Message;

use super::{Decoded, NoSpans, Raw, Resource, Value};

/// Decodes one `ExportTraceServiceRequest`.
///
/// # Errors
/// It is not protobuf of that form.
pub fn decode(bytes: &[u8]) -> Result<Decoded, NoSpans> {
    Ok(ExportTraceServiceRequest::decode(bytes)?.spans())
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Says that everything was taken.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<ResourceAttributes>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceAttributes {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OtlpSpan {
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub int_value: Option<i64>,
}

impl ExportTraceServiceRequest {
    /// The spans in it.
    #[must_use]
    pub fn spans(&self) -> Decoded {
        let mut decoded = Decoded::default();
        for group in &self.resource_spans {
            let attributes = group
                .resource
                .as_ref()
                .map(|found| values(&found.attributes));
            let resource = Resource::of(&attributes.unwrap_or_default());
            for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                decoded.take(&span.raw(), &resource);
            }
        }
        decoded
    }
}

impl OtlpSpan {
    fn raw(&self) -> Raw<'_> {
        Raw {
            name: &self.name,
            id: id(&self.span_id),
            parent: id(&self.parent_span_id),
            start_ns: self.start_time_unix_nano,
            end_ns: self.end_time_unix_nano,
            attributes: values(&self.attributes),
        }
    }
}

fn values(attributes: &[KeyValue]) -> Vec<(&str, Value<'_>)> {
    attributes
        .iter()
        .filter_map(|each| Some((&*each.key, value(each.value.as_ref()?)?)))
        .collect()
}

fn value(any: &AnyValue) -> Option<Value<'_>> {
    match (&any.string_value, any.int_value) {
        (Some(text), _) => Some(Value::Text(text)),
        (None, number) => number.map(Value::Number),
    }
}

/// Of an id of eight bytes; of another, nothing.
fn id(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
