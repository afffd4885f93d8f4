//! Lines with `dest_ip` and `dest_port`, whoever wrote them: a protocol, a workload and a time are
//! used where they are given.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    import::line::json_reason,
    policy::observe::{Destination, service},
    record::{Protocol, canonical_ip},
};

/// A destination that a log tells of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DestinationLine {
    pub(super) destination: Destination,
    pub(super) workload: Option<String>,
    /// Absent if the line does not say in a way that can be understood.
    pub(super) time: Option<Timestamp>,
}

/// Values of any kind, because writers differ in what they put in quotes.
#[derive(Deserialize)]
struct Fields {
    dest_ip: Option<Value>,
    dest_port: Option<Value>,
    protocol: Option<Value>,
    proto: Option<Value>,
    workload: Option<Value>,
    ts: Option<Value>,
    timestamp: Option<Value>,
}

/// Understands a line, or says why not.
pub(super) fn parse(line: &[u8]) -> Result<DestinationLine, String> {
    let fields: Fields = serde_json::from_slice(line).map_err(|error| json_reason(&error))?;
    let ip = address(fields.dest_ip.as_ref())?;
    let protocol = protocol(fields.protocol.or(fields.proto).as_ref())?;
    let port = match &fields.dest_port {
        Some(Value::Null) | None => None,
        Some(value) if protocol.has_ports() => Some(port(value)?),
        // Some tools write 0, or an ICMP type.
        Some(_) => None,
    };
    let service = service(protocol, port).ok_or_else(|| "dest_port is missing".to_owned())?;
    let workload = fields.workload.as_ref().and_then(Value::as_str);
    Ok(DestinationLine {
        destination: Destination { ip, service },
        workload: workload.filter(|name| !name.is_empty()).map(str::to_owned),
        time: fields.ts.or(fields.timestamp).as_ref().and_then(time),
    })
}

fn address(value: Option<&Value>) -> Result<IpAddr, String> {
    let value = value.ok_or_else(|| "dest_ip is missing".to_owned())?;
    let text = value.as_str().unwrap_or_default().trim();
    text.parse()
        .map(canonical_ip)
        .map_err(|_| format!("dest_ip {} is not an address", shown(value)))
}

fn protocol(value: Option<&Value>) -> Result<Protocol, String> {
    let number = |number: u64| u8::try_from(number).ok().map(Protocol);
    let known = match value {
        None | Some(Value::Null) => Some(Protocol::TCP),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Number(code)) => code.as_u64().and_then(number),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    known.ok_or_else(|| {
        let value = value.map(shown).unwrap_or_default();
        format!("protocol {value} is not known; expected a name such as tcp, or its number")
    })
}

/// A port in or without quotes; writers that compute with floats write 443.0.
fn port(value: &Value) -> Result<u16, String> {
    let whole = |number: f64| (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let port = number.and_then(|number| u16::try_from(number).ok());
    port.filter(|port| *port != 0)
        .ok_or_else(|| format!("dest_port {} is not a port", shown(value)))
}

/// RFC 3339, or seconds since 1970.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(seconds) => {
            let since = SignedDuration::try_from_secs_f64(seconds.as_f64()?).ok()?;
            Timestamp::from_duration(since).ok()
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value for a message, whatever its length.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<String, String> {
        parse(line.as_bytes()).map(|line| {
            let Destination { ip, service } = line.destination;
            format!("{ip} {service}")
        })
    }

    #[test]
    fn ports_and_protocols_are_read_in_every_dress() {
        for port in ["443", "\"443\"", "443.0", "\" 443 \""] {
            let line = format!(r#"{{"dest_ip":"1.2.3.4","dest_port":{port}}}"#);
            assert_eq!(read(&line).unwrap(), "1.2.3.4 443/tcp");
        }
        for protocol in ["\"UDP\"", "17"] {
            let line = format!(r#"{{"dest_ip":"::1","dest_port":53,"protocol":{protocol}}}"#);
            assert_eq!(read(&line).unwrap(), "::1 53/udp");
        }
        let icmp = r#"{"dest_ip":"::ffff:1.2.3.4","dest_port":0,"proto":"ICMP"}"#;
        assert_eq!(read(icmp).unwrap(), "1.2.3.4 icmp");
    }

    #[test]
    fn what_is_no_destination_is_told() {
        for (line, reason) in [
            (
                r#"{"dest_ip":"0177.0.0.1","dest_port":1}"#,
                "dest_ip \"0177.0.0.1\" is not",
            ),
            (
                r#"{"dest_ip":16909060,"dest_port":1}"#,
                "dest_ip 16909060 is not",
            ),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":65536}"#,
                "dest_port 65536 is not",
            ),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":-1}"#,
                "dest_port -1 is not",
            ),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":0}"#,
                "dest_port 0 is not",
            ),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":1.5}"#,
                "dest_port 1.5 is not",
            ),
            (r#"{"dest_ip":"1.2.3.4","dest_port":NaN}"#, "expected value"),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":1e999}"#,
                "number out of range",
            ),
            (r#"{"dest_ip":"1.2.3.4"}"#, "dest_port is missing"),
            (r#"{"dest_port":1}"#, "dest_ip is missing"),
            (
                r#"{"dest_ip":"1.2.3.4","dest_port":1,"protocol":"x"}"#,
                "protocol \"x\" is not",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(reason), "{line}: {error}");
        }
    }

    #[test]
    fn times_are_used_where_they_can_be() {
        for (text, seconds) in [
            ("\"1970-01-01T00:00:02Z\"", Some(2)),
            ("2", Some(2)),
            ("2.5", Some(2)),
            ("1e300", None),
            ("\"yesterday\"", None),
        ] {
            let line = format!(r#"{{"dest_ip":"1.2.3.4","dest_port":1,"timestamp":{text}}}"#);
            let time = parse(line.as_bytes()).unwrap().time;
            assert_eq!(time.map(Timestamp::as_second), seconds);
        }
    }
}
