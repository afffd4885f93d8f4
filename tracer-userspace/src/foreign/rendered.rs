//! What `render` writes and no other tool does: the neutral JSON, and rules.nft as a file. Of what is
//! loaded, `nft -j list ruleset` tells.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::Value;

use super::list::{self, List};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

/// The value of the neutral form's `schema`.
pub(super) const JSON: &str = "egress-tracer/rules/1";

pub(super) fn json(object: &Value, list: &mut List) {
    for rule in object
        .get("allow")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        match entry(rule) {
            Some((to, service, ends)) => list.allow(to, &[service], ends),
            None => list.note(format!("a rule is not understood: {rule}")),
        }
    }
}

fn entry(rule: &Value) -> Option<(Target, Service, Option<Date>)> {
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let to = target(text("to")?)?;
    let protocol: Protocol = text("protocol")?.parse().ok()?;
    let port = rule
        .get("port")
        .map(|port| port.as_u64().and_then(|port| u16::try_from(port).ok()));
    let service = match port {
        Some(port) => list::port(protocol, port?),
        None => Service::Protocol {
            protocol,
            kind: text("type").map(str::to_owned),
        },
    };
    let ends = match text("expires") {
        Some(day) => Some(day.parse().ok()?),
        None => None,
    };
    Some((to, service, ends))
}

fn target(text: &str) -> Option<Target> {
    match list::network(text) {
        Some(network) => Some(list::target(network)),
        None => text.parse().ok(),
    }
}

pub(super) fn is_nft(text: &str) -> bool {
    text.contains("# egress-tracer rules for workload ")
        && text.lines().any(|line| line.starts_with("table inet "))
}

/// What is in a set: addresses with services, or a name whose addresses come later.
type Elements = Vec<(Target, Service)>;

pub(super) fn nft(text: &str, list: &mut List) {
    let sets = nft_sets(text, list);
    let accepted = text
        .lines()
        .map(str::trim)
        .filter(|line| line.ends_with(" accept"));
    for rule in accepted {
        let words: Vec<&str> = rule.split_whitespace().collect();
        // What always passes looks into no set.
        let Some(set) = words.iter().find_map(|word| word.strip_prefix('@')) else {
            continue;
        };
        let ends = match words.as_slice() {
            ["meta", "time", "<", moment, ..] => last_day(moment),
            _always => None,
        };
        for (to, service) in sets.get(set).into_iter().flatten() {
            list.allow(to.clone(), std::slice::from_ref(service), ends);
        }
    }
}

fn nft_sets<'t>(text: &'t str, list: &mut List) -> BTreeMap<&'t str, Elements> {
    let mut sets: BTreeMap<&str, Elements> = BTreeMap::new();
    let (mut set, mut fields) = ("", "");
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix("set ")
            .and_then(|line| line.strip_suffix(" {"))
        {
            (set, fields) = (name, "");
        } else if let Some(all) = line.strip_prefix("typeof ") {
            fields = all;
        } else if let Some(about) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once("; filled by "))
        {
            match named(about.0) {
                Some(found) => sets.entry(set).or_default().push(found),
                None => list.note(format!("a set is not understood: {}", about.0)),
            }
        } else if !fields.is_empty() && !line.starts_with('#') && line.ends_with(',') {
            match element(line, fields) {
                Some(found) => sets.entry(set).or_default().push(found),
                None => list.note(format!("an element of {set} is not understood: {line}")),
            }
        } else if line == "}" {
            fields = "";
        }
    }
    sets
}

/// `api.example.com 443/tcp`: what a set of a name's addresses is about.
fn named(about: &str) -> Option<(Target, Service)> {
    let (name, service) = about.split_once(' ')?;
    let all = || list::protocol(service).map(list::all_of);
    Some((name.parse().ok()?, service.parse().ok().or_else(all)?))
}

/// `192.0.2.1 . tcp . 443 comment "…",` by the fields of its set.
fn element(line: &str, fields: &str) -> Option<(Target, Service)> {
    let key = line.split(" comment ").next()?.trim_end_matches(',');
    let parts: Vec<&str> = key.split(" . ").collect();
    let (to, service) = match *parts.as_slice() {
        [to, protocol, port] => (
            to,
            list::port(list::protocol(protocol)?, port.parse().ok()?),
        ),
        [to, kind] if fields.contains("icmp") && fields.ends_with(" type") => {
            let protocol = match fields.contains("icmpv6") {
                true => Protocol::ICMPV6,
                false => Protocol::ICMP,
            };
            let kind = Some(kind.to_owned());
            (to, Service::Protocol { protocol, kind })
        }
        [to, protocol] => (to, list::all_of(list::protocol(protocol)?)),
        _ => return None,
    };
    let network: IpNet = list::network(to)?;
    Some((list::target(network), service))
}

/// The day that ends at this second since 1970.
fn last_day(moment: &str) -> Option<Date> {
    let end = Timestamp::from_second(moment.parse::<i64>().ok()?.checked_sub(1)?).ok()?;
    Some(end.to_zoned(TimeZone::UTC).date())
}
