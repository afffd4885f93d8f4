//! OTLP as JSON: what exporters send to `/v1/traces` and write to files, a request a line.
//!
//! The keys are those of the protobuf messages in lowerCamelCase, numbers of 64 bits are strings,
//! ids hexadecimal (OTLP specification, "JSON Protobuf Encoding"). Other keys are ignored.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Decoded, NoSpans, Raw, Resource, Value};

/// Decodes one request.
///
/// # Errors
/// It is not JSON of that form.
pub fn decode(bytes: &[u8]) -> Result<Decoded, NoSpans> {
    let request: Request<'_> = serde_json::from_slice(bytes)?;
    let mut decoded = Decoded::default();
    for group in &request.resource_spans {
        let resource = Resource::of(&values(&group.resource.attributes));
        for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
            decoded.take(&span.raw(), &resource);
        }
    }
    Ok(decoded)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, alias = "resource_spans")]
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    #[serde(borrow, default)]
    resource: Attributes<'a>,
    #[serde(borrow, default, alias = "scope_spans")]
    scope_spans: Vec<ScopeSpans<'a>>,
}

#[derive(Default, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct ScopeSpans<'a> {
    #[serde(borrow, default)]
    spans: Vec<JsonSpan<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default, alias = "span_id", deserialize_with = "hexadecimal")]
    span_id: u64,
    #[serde(default, alias = "parent_span_id", deserialize_with = "hexadecimal")]
    parent_span_id: u64,
    #[serde(default, alias = "start_time_unix_nano", deserialize_with = "number")]
    start_time_unix_nano: u64,
    #[serde(default, alias = "end_time_unix_nano", deserialize_with = "number")]
    end_time_unix_nano: u64,
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: AnyValue<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue<'a> {
    #[serde(borrow, default, alias = "string_value")]
    string_value: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "int_value")]
    int_value: Option<Number<'a>>,
}

/// A number, or one in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Plain(i64),
    Unsigned(u64),
    Quoted(#[serde(borrow)] Cow<'a, str>),
}

impl JsonSpan<'_> {
    fn raw(&self) -> Raw<'_> {
        Raw {
            name: &self.name,
            id: self.span_id,
            parent: self.parent_span_id,
            start_ns: self.start_time_unix_nano,
            end_ns: self.end_time_unix_nano,
            attributes: values(&self.attributes),
        }
    }
}

fn values<'a>(attributes: &'a [Attribute<'_>]) -> Vec<(&'a str, Value<'a>)> {
    let value = |any: &'a AnyValue<'_>| match (&any.string_value, &any.int_value) {
        (Some(text), _) => Some(Value::Text(text)),
        (None, Some(Number::Plain(number))) => Some(Value::Number(*number)),
        (None, Some(Number::Quoted(text))) => text.parse().ok().map(Value::Number),
        (None, Some(Number::Unsigned(_)) | None) => None,
    };
    attributes
        .iter()
        .filter_map(|each| Some((&*each.key, value(&each.value)?)))
        .collect()
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Plain(number) => u64::try_from(number).map_err(D::Error::custom),
        Number::Unsigned(number) => Ok(number),
        Number::Quoted(text) => text.parse().map_err(D::Error::custom),
    }
}

fn hexadecimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = Cow::<'_, str>::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(0),
        false => u64::from_str_radix(&text, 16).map_err(D::Error::custom),
    }
}
