//! dnsmasq's `nftset=` and `ipset=` lines: the names whose addresses it puts into sets.

use super::list::{self, List};
use crate::{
    policy::model::{Service, Target},
    record::Protocol,
};

pub(super) fn is(text: &str) -> bool {
    lines(text).next().is_some()
}

/// The lines' values, such as `/api.example.com/4#inet#filter#allowed`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let value = line.strip_prefix("nftset=/");
        value.or_else(|| line.strip_prefix("ipset=/"))
    })
}

pub(super) fn read(text: &str, list: &mut List) {
    for line in lines(text) {
        let Some((names, sets)) = line.rsplit_once('/') else {
            list.note(format!("{line} names no set"));
            continue;
        };
        let services: Vec<Service> = sets.split(',').map(service).collect();
        for name in names.split('/') {
            // It puts a name's addresses into the set, and those of all names below it.
            for spelled in [name.to_owned(), format!("*.{name}")] {
                match spelled.parse() {
                    Ok(to @ (Target::Name(_) | Target::Wildcard(_))) => {
                        list.allow(to, &services, None);
                    }
                    Ok(_) | Err(_) => list.note(format!("{spelled} is no name")),
                }
            }
        }
    }
}

/// What a set is for: ours say it in their names, `names4_tcp_443_…`. Of others' it is not known which
/// ports they open.
fn service(set: &str) -> Service {
    let name = set.rsplit('#').next().unwrap_or_default();
    let mut words = name.split('_');
    let is_ours = ["names4", "names6"].contains(&words.next().unwrap_or_default());
    let protocol = words.next().filter(|_| is_ours).and_then(list::protocol);
    let port = words.next().and_then(|port| port.parse().ok());
    match (protocol, port) {
        (Some(protocol), Some(port)) if protocol.has_ports() => list::port(protocol, port),
        (Some(protocol), _) => list::all_of(protocol),
        (None, _) => list::all_of(Protocol::TCP),
    }
}
