//! Lists of what judges by name: Squid, Harden-Runner, the sandbox runtime, names one a line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::list::{self, List};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

/// What lists without ports stand for.
const TCP: Service = Service::Protocol {
    protocol: Protocol::TCP,
    kind: None,
};

pub(super) fn is_squid(text: &str) -> bool {
    lines(text).any(|line| line.starts_with("http_access "))
}

/// `acl` lines by name, then each `http_access` line in order: every list on it must match.
pub(super) fn squid(text: &str, list: &mut List) {
    let mut lists: BTreeMap<&str, Acl> = BTreeMap::new();
    for line in lines(text) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("acl") => {
                if let (Some(name), Some(kind)) = (words.next(), words.next()) {
                    lists.entry(name).or_default().add(kind, words, list);
                }
            }
            Some("http_access") => {
                let verdict = words.next();
                access(
                    verdict == Some("allow"),
                    &words.collect::<Vec<_>>(),
                    &lists,
                    list,
                );
            }
            Some(_) | None => {}
        }
    }
}

/// The values of one list.
#[derive(Debug, Default)]
struct Acl {
    to: Vec<Target>,
    ports: Vec<u16>,
    is_unknown: bool,
}

impl Acl {
    fn add<'w>(&mut self, kind: &str, words: impl Iterator<Item = &'w str>, list: &mut List) {
        for word in words.filter(|word| !word.starts_with('-')) {
            match kind {
                "dstdomain" => match word.strip_prefix('.') {
                    Some(parent) => {
                        self.to.extend(format!("*.{parent}").parse());
                        self.to.extend(parent.parse());
                    }
                    None => self.to.extend(word.parse()),
                },
                "dst" => match (word, list::network(word)) {
                    ("all", _) => self.to.extend(list::everywhere().map(list::target)),
                    (_, Some(network)) => self.to.push(list::target(network)),
                    (_, None) => self.is_unknown = true,
                },
                "port" => match word.split_once('-') {
                    Some((from, to)) => match (from.parse::<u16>(), to.parse::<u16>()) {
                        (Ok(from), Ok(to)) => self.ports.extend(from..=to),
                        (_, _) => self.is_unknown = true,
                    },
                    None => self.ports.extend(word.parse::<u16>()),
                },
                // Who asks, and how: not where it goes.
                "src" | "method" | "proto" | "localip" | "localport" => {}
                other => {
                    self.is_unknown = true;
                    list.note(format!("an access list of kind {other} is not understood"));
                }
            }
        }
    }
}

fn access(is_allowed: bool, names: &[&str], lists: &BTreeMap<&str, Acl>, list: &mut List) {
    let mut to: Option<Vec<Target>> = None;
    let mut ports = None;
    for name in names {
        let Some(acl) = lists.get(name).filter(|acl| !acl.is_unknown) else {
            if is_allowed && *name != "localhost" && *name != "all" {
                list.note(format!("http_access with {name} is not understood"));
            }
            return;
        };
        if !acl.to.is_empty() {
            to = Some(acl.to.clone());
        }
        if !acl.ports.is_empty() {
            ports = Some(acl.ports.clone());
        }
    }
    let services: Vec<Service> = ports.map_or_else(
        || vec![TCP],
        |ports| {
            ports
                .into_iter()
                .map(|port| list::port(Protocol::TCP, port))
                .collect()
        },
    );
    for to in to.unwrap_or_default() {
        match is_allowed {
            true => list.allow(to, &services, None),
            false => list.deny(&to, &services),
        }
    }
}

/// Every step that uses it, wherever in a workflow it stands; whether there is one.
pub(super) fn harden_runner(document: &Value, list: &mut List) -> bool {
    let mut steps = Vec::new();
    collect(document, &mut steps);
    for step in &steps {
        let endpoints = step
            .pointer("/with/allowed-endpoints")
            .and_then(Value::as_str);
        for endpoint in endpoints.unwrap_or_default().split_whitespace() {
            let (name, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "443"));
            match (name.parse::<Target>(), port.parse::<u16>()) {
                (Ok(to), Ok(port)) => list.allow(to, &[list::port(Protocol::TCP, port)], None),
                (_, _) => list.note(format!("{endpoint} is no NAME:PORT")),
            }
        }
    }
    !steps.is_empty()
}

fn collect<'v>(value: &'v Value, steps: &mut Vec<&'v Value>) {
    match value {
        Value::Object(object) => {
            let uses = object
                .get("uses")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if uses.starts_with("step-security/harden-runner@") {
                steps.push(value);
            }
            object.values().for_each(|inner| collect(inner, steps));
        }
        Value::Array(all) => all.iter().for_each(|inner| collect(inner, steps)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn sandbox_runtime(document: &Value, list: &mut List) {
    let names = |key: &str| {
        document
            .pointer(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for name in names("/network/deniedDomains").filter_map(Value::as_str) {
        if let Ok(to) = name.parse::<Target>() {
            list.deny(&to, &[TCP]);
        }
    }
    for name in names("/network/allowedDomains").filter_map(Value::as_str) {
        one_name(name, list);
    }
}

/// Whether every line is a name, and some have a dot: a word alone could be anything.
pub(super) fn is_names(text: &str) -> bool {
    let mut any = false;
    let all = lines(text).all(|line| {
        any |= line.contains('.');
        matches!(line.parse(), Ok(Target::Name(_) | Target::Wildcard(_)))
    });
    all && any
}

pub(super) fn names(text: &str, list: &mut List) {
    lines(text).for_each(|line| one_name(line, list));
}

fn one_name(name: &str, list: &mut List) {
    match name.parse::<Target>() {
        Ok(to) => list.allow(to, &[TCP], None),
        Err(_) => list.note(format!("{name} is no name")),
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}
