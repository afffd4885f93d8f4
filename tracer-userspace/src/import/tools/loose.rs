//! Values that tools write in more than one way: numbers in quotes, times as text or seconds, lists
//! as text.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de};

use crate::record::Protocol;

/// Text or a number, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar)
            .map(|scalar| match scalar {
                Read::Text(text) => Self(text),
                Read::Whole(number) => Self(number.to_string()),
                Read::Number(number) => Self(number.to_string()),
                Read::Nothing => Self::default(),
            })
    }
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole number, in quotes or not; absent where it is anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar)
            .map(|scalar| match scalar {
                Read::Text(text) => Self(text.trim().parse().ok()),
                Read::Whole(number) => Self(Some(number)),
                Read::Number(number) => {
                    let is_whole = number.fract() == 0.0 && number >= 0.0;
                    Self(is_whole.then_some(number as u64))
                }
                Read::Nothing => Self(None),
            })
    }
}

impl Whole {
    pub(super) fn or_zero(self) -> u64 {
        self.0.unwrap_or(0)
    }

    /// A port; an error names the number that is none.
    pub(super) fn port(self) -> Result<Option<u16>, String> {
        let port =
            |number| u16::try_from(number).map_err(|_| format!("port {number} is not a port"));
        self.0.map(port).transpose()
    }
}

/// A moment: RFC 3339, also with an offset without a colon, or seconds or nanoseconds since 1970.
/// Absent where it is anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Option<Timestamp>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar)
            .map(|scalar| match scalar {
                Read::Text(text) => Self(text.parse().ok().or_else(|| seconds(text.parse().ok()?))),
                // No clock of seconds gets there for 30 million years: these are nanoseconds.
                Read::Whole(number @ 1_000_000_000_000_000..) => {
                    Self(Timestamp::from_nanosecond(i128::from(number)).ok())
                }
                Read::Whole(number) => Self(seconds(number as f64)),
                Read::Number(number) => Self(seconds(number)),
                Read::Nothing => Self(None),
            })
    }
}

fn seconds(since: f64) -> Option<Timestamp> {
    let since = SignedDuration::try_from_secs_f64(since).ok()?;
    Timestamp::from_duration(since).ok()
}

/// A list, or its items separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Items).map(Self)
    }
}

/// A protocol by its name or number, in the spellings that tools use.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("ipproto_").unwrap_or(&lower);
    let known = match bare {
        "ipv6-icmp" | "icmp6" => Some(Protocol::ICMPV6),
        _ => bare
            .parse()
            .ok()
            .or_else(|| bare.parse().ok().map(Protocol)),
    };
    known.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("protocol {shown:?} is not known")
    })
}

enum Read {
    Text(String),
    Whole(u64),
    Number(f64),
    Nothing,
}

struct Scalar;

impl<'de> de::Visitor<'de> for Scalar {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Read, E> {
        Ok(Read::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Read, E> {
        Ok(Read::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Read, E> {
        Ok(Read::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Read, E> {
        Ok(Read::Number(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Read, E> {
        Ok(Read::Text(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Nothing)
    }

    fn visit_none<E>(self) -> Result<Read, E> {
        Ok(Read::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

struct Items;

impl<'de> de::Visitor<'de> for Items {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or text with commas")
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Ok(items.map(str::to_owned).collect())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_i64<E>(self, number: i64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_f64<E>(self, number: f64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_bool<E>(self, _: bool) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_none<E>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        while let Some(Text(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}
