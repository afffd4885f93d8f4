//! `ipset save`, and what `ipset restore` takes: sets of networks, with or without ports. Alone they
//! judge nothing; rules that look into them may stand in the same file.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::list::{self, List};
use crate::policy::model::Service;

/// What is in a set.
pub(super) type Elements = Vec<(IpNet, Vec<Service>)>;
pub(super) type Sets = BTreeMap<String, Elements>;

pub(super) fn is(text: &str) -> bool {
    let is_set = |line: &str| line.starts_with("create ") && line.contains(" hash:");
    text.lines().any(|line| is_set(line.trim_start()))
}

/// The sets as they are once every line has been followed.
pub(super) fn sets(text: &str, list: &mut List) -> Sets {
    let mut sets = Sets::new();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let (verb, name) = (words.next(), words.next().unwrap_or_default());
        match verb {
            Some("create") => {
                sets.entry(name.to_owned()).or_default();
            }
            Some("flush") => {
                sets.insert(name.to_owned(), Elements::new());
            }
            Some("destroy") => {
                sets.remove(name);
            }
            Some("swap") => {
                let other = words.next().unwrap_or_default();
                let (one, two) = (sets.remove(name), sets.remove(other));
                sets.insert(name.to_owned(), two.unwrap_or_default());
                sets.insert(other.to_owned(), one.unwrap_or_default());
            }
            Some("add") => {
                let element = words.next().unwrap_or_default();
                match (self::element(element), words.any(|word| word == "nomatch")) {
                    (Some(found), false) => sets.entry(name.to_owned()).or_default().push(found),
                    (_, _) => list.note(format!(
                        "an element of set {name} is not understood: {element}"
                    )),
                }
            }
            Some(_) | None => {}
        }
    }
    sets
}

/// All that is in some set.
pub(super) fn read(text: &str, list: &mut List) {
    let sets = sets(text, list);
    list.note("sets alone judge nothing: all of their elements count as let pass");
    for (network, services) in sets.into_values().flatten() {
        list.allow(list::target(network), &services, None);
    }
}

/// `192.0.2.0/24`, `192.0.2.1,tcp:443`.
fn element(text: &str) -> Option<(IpNet, Vec<Service>)> {
    let Some((to, service)) = text.split_once(',') else {
        return Some((list::network(text)?, list::any_service()));
    };
    let (protocol, ports) = service.split_once(':')?;
    let protocol = list::protocol(protocol)?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let each = (first..=last).map(|port| list::port(protocol, port));
    let services = protocol.has_ports().then(|| each.collect())?;
    Some((list::network(to)?, services))
}
