//! `nft -j list ruleset`: what the chains that packets leave by accept.
//!
//! Conditions that open no destination by themselves (an open connection, the loopback interface)
//! are passed over. One that is not understood takes its rule out. The conditions under which a chain
//! jumps to another are not looked at: they say whose traffic it is. Only where a chain for one cgroup
//! jumps to one for another cgroup in it, that one is not for all of the traffic: it is left out.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::{ToSpan as _, civil::Date};
use serde_json::Value;

use super::list::{self, List};
use crate::{policy::model::Service, record::Protocol};

/// Hooks past which packets come that leave.
const OUTWARD: [&str; 3] = ["output", "forward", "postrouting"];

type Place<'v> = (&'v str, &'v str, &'v str);

/// What a rule asks of a packet, as far as it is told by destination.
#[derive(Clone, Debug, Default)]
struct Match {
    to: Option<Vec<IpNet>>,
    services: Option<Vec<Service>>,
    /// Both together, out of a set.
    pairs: Option<Vec<(Vec<IpNet>, Vec<Service>)>>,
    protocols: Option<Vec<Protocol>>,
    ends: Option<Date>,
}

/// What became of one condition.
enum Read {
    Understood,
    /// It lets pass what opens no destination.
    OpensNothing,
    Unknown,
}

pub(super) fn read(ruleset: &[Value], list: &mut List) {
    let of = |kind: &'static str| ruleset.iter().filter_map(move |each| each.get(kind));
    let sets: BTreeMap<Place<'_>, &Value> = of("set")
        .filter_map(|set| Some((place(set, "name")?, set)))
        .collect();
    let rules: Vec<(Place<'_>, &Value)> = of("rule")
        .filter_map(|rule| Some((place(rule, "chain")?, rule)))
        .collect();
    let begins: Vec<Place<'_>> = of("chain")
        .filter(|chain| OUTWARD.contains(&text(chain, "hook")))
        .filter_map(|chain| place(chain, "name"))
        .collect();
    let mut seen = begins.clone();
    // Each with whether it is for one cgroup alone.
    let mut waiting: Vec<(Place<'_>, bool)> = begins.into_iter().map(|at| (at, false)).collect();
    while let Some((at, is_of_cgroup)) = waiting.pop() {
        for (_, rule) in rules.iter().filter(|(chain, _)| *chain == at) {
            for target in jumps(rule) {
                let next = (at.0, at.1, target);
                let has_cgroup = asks_cgroup(rule);
                if has_cgroup && is_of_cgroup {
                    list.note(format!(
                        "chain {target} is for a part of the cgroup alone, such as one tool: what it \
                         allows is left out"
                    ));
                } else if !seen.contains(&next) {
                    seen.push(next);
                    waiting.push((next, has_cgroup || is_of_cgroup));
                }
            }
        }
    }
    for (at, rule) in rules.iter().filter(|(chain, _)| seen.contains(chain)) {
        one(*at, rule, &sets, list);
    }
}

fn one(at: Place<'_>, rule: &Value, sets: &BTreeMap<Place<'_>, &Value>, list: &mut List) {
    let expressions = rule.get("expr").and_then(Value::as_array);
    let expressions = expressions.map_or(&[][..], Vec::as_slice);
    let has = |verdict: &str| expressions.iter().any(|each| each.get(verdict).is_some());
    let is_allowed = has("accept");
    if !is_allowed && !has("drop") && !has("reject") {
        return;
    }
    let mut found = Match::default();
    for condition in expressions.iter().filter_map(|each| each.get("match")) {
        match found.add(condition, at, sets) {
            Read::Understood => {}
            Read::OpensNothing => return,
            Read::Unknown => {
                if is_allowed {
                    list.note(format!(
                        "a rule of chain {} is not understood: {condition}",
                        at.2
                    ));
                }
                return;
            }
        }
    }
    if let (true, Some(map)) = (
        is_allowed,
        expressions.iter().find_map(|each| each.get("vmap")),
    ) {
        list.note(format!(
            "a verdict map of chain {} is not understood: {map}",
            at.2
        ));
        return;
    }
    found.tell(is_allowed, list);
}

impl Match {
    fn add(
        &mut self,
        condition: &Value,
        at: Place<'_>,
        sets: &BTreeMap<Place<'_>, &Value>,
    ) -> Read {
        let (Some(left), Some(right)) = (condition.get("left"), condition.get("right")) else {
            return Read::Unknown;
        };
        if let Some(meta) = left.pointer("/meta/key").and_then(Value::as_str) {
            return self.meta(meta, text(condition, "op"), right);
        }
        if left.pointer("/ct/key").is_some_and(|key| key == "state") {
            return match mentions(right, "new") {
                true => Read::Understood,
                false => Read::OpensNothing,
            };
        }
        if !["==", "in"].contains(&text(condition, "op")) {
            return Read::Unknown;
        }
        let values = match right.as_str().and_then(|name| name.strip_prefix('@')) {
            Some(name) => match sets.get(&(at.0, at.1, name)) {
                Some(set) => array(set.get("elem")),
                None => return Read::Unknown,
            },
            None => match right.get("set") {
                Some(inner) => array(Some(inner)),
                None => vec![right],
            },
        };
        self.values(left, &values)
            .map_or(Read::Unknown, |()| Read::Understood)
    }

    fn meta(&mut self, key: &str, op: &str, right: &Value) -> Read {
        match key {
            "oif" | "oifname" if right == "lo" => Read::OpensNothing,
            "l4proto" if op == "==" => {
                let values = match right.get("set") {
                    Some(inner) => array(Some(inner)),
                    None => vec![right],
                };
                let protocols = values.into_iter().map(protocol).collect();
                self.protocols = protocols;
                match self.protocols {
                    Some(_) => Read::Understood,
                    None => Read::Unknown,
                }
            }
            // Whose traffic it is, not where it goes.
            "nfproto" | "protocol" | "mark" | "cgroup" | "skuid" | "skgid" | "iifname" | "iif" => {
                match key {
                    "skuid" | "skgid" | "cgroup" | "mark" => Read::Unknown,
                    _whose => Read::Understood,
                }
            }
            "time" if op == "<" => {
                self.ends = right.as_str().and_then(last_day);
                match self.ends {
                    Some(_) => Read::Understood,
                    None => Read::Unknown,
                }
            }
            _other => Read::Unknown,
        }
    }

    fn values(&mut self, left: &Value, values: &[&Value]) -> Option<()> {
        if let Some(fields) = left.get("concat") {
            let fields = array(Some(fields));
            let pairs = values.iter().map(|value| pair(&fields, value));
            self.pairs = Some(pairs.collect::<Option<_>>()?);
            return Some(());
        }
        let (family, field) = payload(left)?;
        match (family, field) {
            ("ip" | "ip6", "daddr") => {
                let all: Option<Vec<Vec<IpNet>>> =
                    values.iter().map(|each| networks(each)).collect();
                self.to = Some(all?.concat());
            }
            ("icmp", "type") | ("icmpv6", "type") | (_, "dport") => {
                let each = values.iter().map(|value| services(family, field, value));
                self.services = Some(each.collect::<Option<Vec<_>>>()?.concat());
            }
            (_, _) => return None,
        }
        Some(())
    }

    fn tell(self, is_allowed: bool, list: &mut List) {
        let ends = self.ends;
        let mut say = |to: &[IpNet], services: &[Service]| {
            for network in to {
                let to = list::target(*network);
                match is_allowed {
                    true => list.allow(to, services, ends),
                    false => list.deny(&to, services),
                }
            }
        };
        if let Some(pairs) = &self.pairs {
            pairs.iter().for_each(|(to, services)| say(to, services));
            return;
        }
        let is_told = self.to.is_some() || self.services.is_some() || self.protocols.is_some();
        // What closes everything else is no denial of anything.
        if !is_allowed && self.to.is_none() {
            return;
        }
        let services = match (self.services, self.protocols) {
            (Some(services), Some(protocols)) => with_protocols(services, &protocols),
            (Some(services), None) => services,
            (None, Some(protocols)) => protocols.into_iter().map(list::all_of).collect(),
            (None, None) => list::any_service(),
        };
        if is_told || is_allowed {
            say(
                &self.to.unwrap_or_else(|| list::everywhere().to_vec()),
                &services,
            );
        }
    }
}

/// `th dport` with `meta l4proto` beside it.
fn with_protocols(services: Vec<Service>, protocols: &[Protocol]) -> Vec<Service> {
    let is_meant = |service: &Service| match service {
        Service::Port { protocol, .. } | Service::Protocol { protocol, .. } => {
            protocols.contains(protocol)
        }
    };
    services.into_iter().filter(is_meant).collect()
}

/// One element of a set of concatenated fields: destination, then protocol, then port.
fn pair(fields: &[&Value], value: &Value) -> Option<(Vec<IpNet>, Vec<Service>)> {
    let values = array(element(value).get("concat"));
    if values.len() != fields.len() {
        return None;
    }
    let (mut to, mut of, mut services) = (list::everywhere().to_vec(), None, None);
    for (field, value) in fields.iter().zip(values) {
        if field
            .pointer("/meta/key")
            .is_some_and(|key| key == "l4proto")
        {
            of = Some(protocol(value)?);
            continue;
        }
        match payload(field)? {
            ("ip" | "ip6", "daddr") => to = networks(value)?,
            (family, name) => services = Some(self::services(family, name, value)?),
        }
    }
    let services = match (of, services) {
        (Some(protocol), Some(services)) => with_protocols(services, &[protocol]),
        (None, Some(services)) => services,
        (Some(protocol), None) => vec![list::all_of(protocol)],
        (None, None) => list::any_service(),
    };
    Some((to, services))
}

fn services(family: &str, field: &str, value: &Value) -> Option<Vec<Service>> {
    let value = element(value);
    if field == "type" {
        let of = list::protocol(family)?;
        let kind = value.as_str().map(str::to_owned);
        let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
        return match (kind, number) {
            (Some(kind), _) => Some(vec![Service::Protocol {
                protocol: of,
                kind: Some(kind),
            }]),
            (None, Some(number)) => list::icmp(of, number).map(|service| vec![service]),
            (None, None) => None,
        };
    }
    if field != "dport" {
        return None;
    }
    let protocols = match family {
        "th" => vec![
            Protocol::TCP,
            Protocol::UDP,
            Protocol::SCTP,
            Protocol::DCCP,
            Protocol::UDPLITE,
        ],
        name => vec![list::protocol(name)?],
    };
    let ports = ports(value)?;
    let each = protocols
        .iter()
        .flat_map(|protocol| ports.clone().map(|port| list::port(*protocol, port)));
    Some(each.collect())
}

fn ports(value: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match value
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([from, to]) => Some(number(from)?..=number(to)?),
        Some(_) => None,
        None => number(value).map(|port| port..=port),
    }
}

fn networks(value: &Value) -> Option<Vec<IpNet>> {
    let value = element(value);
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let address: IpAddr = text(prefix, "addr").parse().ok()?;
        return IpNet::new(address, length)
            .ok()
            .map(|network| vec![network]);
    }
    match value
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([from, to]) => {
            let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
            Some(list::between(address(from)?, address(to)?))
        }
        Some(_) => None,
        None => list::network(value.as_str()?).map(|network| vec![network]),
    }
}

/// nft shows the moment in the time zone of whoever asked: what ends at a day's beginning held to
/// the end of the day before.
fn last_day(moment: &str) -> Option<Date> {
    let (day, time) = moment.split_once(' ')?;
    let day: Date = day.parse().ok()?;
    match time {
        "00:00:00" => day.checked_sub(1.day()).ok(),
        _later => Some(day),
    }
}

/// Whether a rule is about the sockets of one cgroup v2.
fn asks_cgroup(rule: &Value) -> bool {
    let expressions = rule.get("expr").and_then(Value::as_array);
    let mut expressions = expressions.into_iter().flatten();
    expressions.any(|each| {
        let key = each.pointer("/match/left/socket/key");
        key.and_then(Value::as_str) == Some("cgroupv2")
    })
}

fn jumps(rule: &Value) -> impl Iterator<Item = &str> {
    let expressions = rule.get("expr").and_then(Value::as_array);
    expressions.into_iter().flatten().filter_map(|each| {
        let jump = each.get("jump").or_else(|| each.get("goto"))?;
        jump.get("target")?.as_str()
    })
}

/// An element may carry a comment or a time around it.
fn element(value: &Value) -> &Value {
    value.pointer("/elem/val").unwrap_or(value)
}

fn payload(left: &Value) -> Option<(&str, &str)> {
    let payload = left.get("payload")?;
    Some((text(payload, "protocol"), text(payload, "field")))
}

fn protocol(value: &Value) -> Option<Protocol> {
    let value = element(value);
    let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
    number
        .map(Protocol)
        .or_else(|| value.as_str().and_then(list::protocol))
}

fn mentions(value: &Value, word: &str) -> bool {
    let listed = array(Some(value.get("set").unwrap_or(value)));
    value == word || listed.iter().any(|each| *each == word)
}

fn place<'v>(value: &'v Value, name: &str) -> Option<Place<'v>> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Some((text("family")?, text("table")?, text(name)?))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn array(value: Option<&Value>) -> Vec<&Value> {
    value
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().collect())
}
