//! The common case of a line with `dest_ip` and `dest_port`, read without making a tree of it.
//!
//! Only flat ASCII objects without escapes are read here, and only values in their usual form:
//! whatever else there is, [`Scanner::scan`] answers `None`, and `destination_line`, which understands
//! more, decides. What both understand they read alike; a test compares them.

mod json;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};

use self::json::{Value, space, text, value};
use crate::record::{Protocol, canonical_ip};

/// A destination, as `destination_line` would read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) ip: IpAddr,
    /// Absent where the protocol has none.
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
    pub(super) time: Option<Timestamp>,
}

/// Reads lines, and remembers the last minute that it has read.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// `YYYY-MM-DDTHH:MM:` and when that was.
    minute: Option<([u8; MINUTE], i64)>,
}

const MINUTE: usize = 17;

/// What the keys that count were given.
#[derive(Default)]
struct Fields<'l> {
    dest_ip: Option<Value<'l>>,
    dest_port: Option<Value<'l>>,
    protocol: Option<Value<'l>>,
    proto: Option<Value<'l>>,
    ts: Option<Value<'l>>,
    timestamp: Option<Value<'l>>,
}

impl Scanner {
    /// `None`: ask somebody who understands more.
    pub(super) fn scan(&mut self, line: &[u8]) -> Option<Plain> {
        let fields = fields(line)?;
        let Value::Text(ip) = fields.dest_ip? else {
            return None;
        };
        let protocol = match given(fields.protocol).or(given(fields.proto)) {
            None => Protocol::TCP,
            Some(Value::Text(name)) => protocol(name)?,
            Some(Value::Number(_) | Value::Bool | Value::Null) => return None,
        };
        let port = match given(fields.dest_port) {
            None => None,
            Some(Value::Text(digits) | Value::Number(digits)) => Some(port(digits)?),
            Some(Value::Bool | Value::Null) => return None,
        };
        let port = port.filter(|_| protocol.has_ports());
        if protocol.has_ports() && port.is_none() {
            return None;
        }
        let time = match given(fields.ts).or(given(fields.timestamp)) {
            Some(Value::Text(text)) => self.time(text),
            Some(Value::Number(digits)) => seconds(digits),
            Some(Value::Bool | Value::Null) | None => None,
        };
        Some(Plain {
            ip: address(ip)?,
            port,
            protocol,
            time,
        })
    }

    /// RFC 3339; in UTC with seconds and perhaps a fraction, the minute is mostly known already.
    fn time(&mut self, text: &[u8]) -> Option<Timestamp> {
        let usual = || -> Option<(&[u8; MINUTE], i64, i32)> {
            let (minute, rest) = text.split_first_chunk::<MINUTE>()?;
            let (second, rest) = rest.split_first_chunk::<2>()?;
            let second = digits(second).filter(|second| *second < 60)?;
            let fraction = rest.strip_suffix(b"Z")?;
            Some((minute, second, nanoseconds(fraction)?))
        };
        let whole = || std::str::from_utf8(text).ok()?.parse().ok();
        let Some((minute, second, nanosecond)) = usual() else {
            return whole();
        };
        let begin = match self.minute {
            Some((known, begin)) if known == *minute => begin,
            Some(_) | None => {
                let first = [minute, &b"00Z"[..]].concat();
                let first: Timestamp = std::str::from_utf8(&first).ok()?.parse().ok()?;
                self.minute = Some((*minute, first.as_second()));
                first.as_second()
            }
        };
        Timestamp::new(begin + second, nanosecond).ok()
    }
}

/// A value that is there.
fn given(value: Option<Value<'_>>) -> Option<Value<'_>> {
    value.filter(|value| !matches!(value, Value::Null))
}

/// The values of the keys that count. `None` where another reader has to look, or it is no object.
fn fields(line: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    let mut rest = space(line).strip_prefix(b"{")?;
    loop {
        let (key, after) = text(space(rest))?;
        let after = space(after).strip_prefix(b":")?;
        let (value, after) = value(space(after))?;
        let place = match key {
            b"dest_ip" => Some(&mut fields.dest_ip),
            b"dest_port" => Some(&mut fields.dest_port),
            b"protocol" => Some(&mut fields.protocol),
            b"proto" => Some(&mut fields.proto),
            b"ts" => Some(&mut fields.ts),
            b"timestamp" => Some(&mut fields.timestamp),
            // Keys that make it another tool's line, or another workload's.
            b"schema" | b"workload" | b"event_type" | b"would_deny" | b"id.orig_h"
            | b"id_orig_h" => return None,
            _key => None,
        };
        if let Some(place) = place {
            // Twice the same key.
            if place.replace(value).is_some() {
                return None;
            }
        }
        match space(after).split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => return space(after).is_empty().then_some(fields),
            (_, _) => return None,
        }
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = dotted(text) {
        return Some(IpAddr::V4(address));
    }
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .map(canonical_ip)
}

/// Four numbers without leading zeros.
fn dotted(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut at = 0;
    let mut number = None;
    for byte in text {
        match (byte, number) {
            (b'.', Some(octet)) if at < 3 => {
                octets[at] = octet;
                at += 1;
                number = None;
            }
            (b'0'..=b'9', None) => number = Some(byte - b'0'),
            (b'0'..=b'9', Some(octet)) if octet != 0 => {
                number = Some(octet.checked_mul(10)?.checked_add(byte - b'0')?);
            }
            (_, _) => return None,
        }
    }
    octets[3] = number.filter(|_| at == 3)?;
    Some(Ipv4Addr::from(octets))
}

/// 1 to 65535 in digits.
fn port(text: &[u8]) -> Option<u16> {
    if text.len() > 5 || text.first() == Some(&b'0') {
        return None;
    }
    u16::try_from(digits(text)?).ok()
}

fn protocol(name: &[u8]) -> Option<Protocol> {
    match name {
        b"tcp" | b"TCP" => Some(Protocol::TCP),
        b"udp" | b"UDP" => Some(Protocol::UDP),
        _other => std::str::from_utf8(name).ok()?.parse().ok(),
    }
}

/// A few digits as a number.
fn digits(text: &[u8]) -> Option<i64> {
    let add = |sum: i64, byte: &u8| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    };
    (!text.is_empty() && text.len() <= 9).then(|| text.iter().try_fold(0, add))?
}

/// `.123456`, or nothing.
fn nanoseconds(text: &[u8]) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let fraction = text.strip_prefix(b".")?;
    let scale = 10_i64.pow(u32::try_from(9_usize.checked_sub(fraction.len())?).ok()?);
    i32::try_from(digits(fraction)? * scale).ok()
}

/// Seconds since 1970.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let since = serde_json::from_slice::<f64>(text).ok()?;
    let since = SignedDuration::try_from_secs_f64(since).ok()?;
    Timestamp::from_duration(since).ok()
}
