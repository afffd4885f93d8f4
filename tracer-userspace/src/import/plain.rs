//! The common case of a line with `dest_ip` and `dest_port`, read without making a tree of it.
//!
//! Only flat ASCII objects without escapes are read here, and only values in their usual form:
//! whatever else there is, [`Scanner::scan`] answers `None`, and `destination_line`, which understands
//! more, decides. What both understand they read alike; a test compares them.

use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};

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

#[derive(Clone, Copy)]
enum Value<'l> {
    Text(&'l [u8]),
    Number(&'l [u8]),
    Bool,
    Null,
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

fn space(bytes: &[u8]) -> &[u8] {
    match bytes.first() {
        Some(b' ' | b'\t' | b'\r' | b'\n') => bytes.trim_ascii_start(),
        Some(_) | None => bytes,
    }
}

/// A string and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_prefix(b"\"")?;
    let end = unusual(inside)?;
    (inside[end] == b'"').then(|| (&inside[..end], &inside[end + 1..]))
}

/// Where the first byte is that is a quote, a backslash, a control character or not ASCII: eight
/// bytes at a time. A borrow can only make a false find above a true one.
fn unusual(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        let quote = zero(word ^ (LOW * u64::from(b'"')));
        let backslash = zero(word ^ (LOW * u64::from(b'\\')));
        let control = word.wrapping_sub(LOW * 0x20) & !word;
        let found = (word | quote | backslash | control) & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_unusual = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..);
    bytes[at..]
        .iter()
        .position(is_unusual)
        .map(|more| at + more)
}

/// A string, number or word, and what follows it.
fn value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    if bytes.first() == Some(&b'"') {
        let (text, rest) = text(bytes)?;
        return Some((Value::Text(text), rest));
    }
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
    let (word, rest) = bytes.split_at(bytes.iter().position(is_end)?);
    let value = match word {
        b"true" | b"false" => Value::Bool,
        b"null" => Value::Null,
        number if is_number(number) => Value::Number(number),
        _other => return None,
    };
    Some((value, rest))
}

/// A number as JSON spells it, without an exponent.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, fraction) = text.split_at(whole);
    let is_whole = matches!(whole, [b'0'] | [b'1'..=b'9', ..]);
    is_whole
        && match fraction {
            [] => true,
            [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            _other => false,
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{
        import::{destination_line, line},
        policy::observe::{Destination, service},
    };

    fn scan(line: &str) -> Option<Plain> {
        Scanner::default().scan(line.as_bytes())
    }

    /// What is read here is read alike by the reader that understands more.
    fn agrees(line: &str) -> Result<(), TestCaseError> {
        let Some(plain) = scan(line) else {
            return Ok(());
        };
        let line::Parsed::Destination(slow) = line::parse(line.as_bytes()).unwrap() else {
            panic!("{line} is no destination line");
        };
        let expected = Destination {
            ip: plain.ip,
            service: service(plain.protocol, plain.port).unwrap(),
        };
        prop_assert_eq!(&slow.destination, &expected, "{}", line);
        prop_assert_eq!(slow.time, plain.time, "{}", line);
        prop_assert_eq!(slow.workload, None);
        Ok(())
    }

    #[test]
    fn the_usual_lines_are_read_here() {
        for line in [
            r#"{"dest_ip":"1.2.3.4","dest_port":443}"#,
            r#"{"ts": "2026-11-22T10:00:00.123456Z", "dest_ip": "2001:db8::1", "dest_port": 443, "protocol": "tcp"}"#,
            r#" { "ok" : true , "dest_ip" : "1.2.3.4" , "dest_port" : "53" , "proto" : "UDP" } "#,
            r#"{"timestamp":1763805600.25,"tool":"search","dest_ip":"1.2.3.4","dest_port":1,"n":-0.5,"x":null}"#,
            r#"{"dest_ip":"::ffff:1.2.3.4","protocol":"icmp","dest_port":8}"#,
        ] {
            assert!(scan(line).is_some(), "{line}");
            agrees(line).unwrap();
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_others() {
        for line in [
            r#"{"dest_ip":"1.2.3.4","dest_port":443"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443} x"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":65536}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":0443}"#,
            r#"{"dest_ip":"1.2.3.04","dest_port":443}"#,
            r#"{"dest_ip":"1.2.3","dest_port":443}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"dest_port":443}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":NaN}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":01}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":"\u0041"}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":[1]}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"a":"é"}"#,
            r#"{"dest_ip":"1.2.3.4","dest_port":443,"event_type":"flow"}"#,
            "{\"dest_ip\":\"1.2.3.4\",\"dest_port\":443,\"a\":\"\t\"}",
            r#"{"dest_ip":"1.2.3.4"}"#,
            "{}",
            "",
        ] {
            assert_eq!(scan(line), None, "{line}");
        }
    }

    fn pair() -> impl Strategy<Value = String> {
        let key = select(vec![
            "dest_ip",
            "dest_ip",
            "dest_port",
            "dest_port",
            "protocol",
            "proto",
            "ts",
            "timestamp",
            "x",
        ]);
        let value = prop_oneof![
            "\"[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\"",
            "\"[0-9a-f:]{2,10}\"",
            "-?[0-9]{1,6}(\\.[0-9]{1,3})?(e5)?",
            "\"[0-9]{1,6}\"",
            "\"(tcp|UDP|icmp|Sctp|ip-4|x)\"",
            "\"202[0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+01:00)\"",
            "(true|false|null|nul|NaN)",
            "\"\\PC{0,12}\"",
        ];
        (key, value, select(vec!["", " ", "\t"]))
            .prop_map(|(key, value, space)| format!("\"{key}\":{space}{value}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn both_readers_agree(pairs in vec(pair(), 0..6)) {
            agrees(&format!("{{{}}}", pairs.join(",")))?;
        }

        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..60)) {
            let _ = Scanner::default().scan(&bytes);
            let _ = destination_line::parse(&bytes);
        }
    }
}
