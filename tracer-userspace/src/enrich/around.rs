//! Whose an address is that is near: the host's own, or another container's. Read when a flow is told,
//! and again in the next interval.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// Containers that are looked at, at a time: of more than these nobody is named.
const MAX_CONTAINERS: usize = 1024;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Neighbour {
    Host,
    Container { id: String, name: String },
}

/// A container that runs, and one of its processes.
#[derive(Clone, Debug)]
pub struct Running {
    pub id: String,
    pub name: String,
    pub pid: u32,
}

/// Addresses, as far as somebody has asked in this interval.
#[derive(Debug, Default)]
pub struct Around {
    found: Option<HashMap<IpAddr, Option<Neighbour>>>,
}

impl Around {
    /// Addresses come and go with containers.
    pub fn forget(&mut self) {
        self.found = None;
    }

    /// Whose `address` is. `containers` is asked where nothing is known yet.
    pub fn at(
        &mut self,
        address: IpAddr,
        proc: &Path,
        containers: impl FnOnce() -> Vec<Running>,
    ) -> Option<Neighbour> {
        let found = self.found.get_or_insert_with(|| look(proc, containers()));
        found.get(&address).cloned().flatten()
    }
}

/// Several containers with one address cannot be told apart; with the host's they share its network.
fn look(proc: &Path, containers: Vec<Running>) -> HashMap<IpAddr, Option<Neighbour>> {
    let mut found = HashMap::new();
    for Running { id, name, pid } in containers.into_iter().take(MAX_CONTAINERS) {
        let neighbour = Neighbour::Container { id, name };
        for address in addresses(&proc.join(pid.to_string())) {
            let known = found
                .entry(address)
                .or_insert_with(|| Some(neighbour.clone()));
            if known.as_ref() != Some(&neighbour) {
                *known = None;
            }
        }
    }
    for address in addresses(&proc.join("self")) {
        found.insert(address, Some(Neighbour::Host));
    }
    found
}

/// What an interface is called that has this number in a process's network namespace, if it has an
/// IPv6 address: each link-local one does.
#[must_use]
pub fn interface(process: &Path, number: u32) -> Option<String> {
    let table = fs::read_to_string(process.join("net/if_inet6")).ok()?;
    name_of(&table, number).map(str::to_owned)
}

/// `ADDRESS NUMBER PREFIX SCOPE FLAGS NAME`, the numbers in hexadecimal.
fn name_of(table: &str, number: u32) -> Option<&str> {
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let found = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        words.nth(3).filter(|_| found == number)
    })
}

/// The addresses in a process's network namespace that only that has.
fn addresses(process: &Path) -> Vec<IpAddr> {
    let read = |name: &str| fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
    let four = local4(&read("fib_trie")).into_iter().map(IpAddr::V4);
    four.chain(local6(&read("if_inet6")).into_iter().map(IpAddr::V6))
        .collect()
}

/// A leaf of the routing table, and below it what it is: `|-- ADDRESS`, `/32 host LOCAL`.
fn local4(table: &str) -> Vec<Ipv4Addr> {
    let mut leaf = None;
    let mut found: Vec<Ipv4Addr> = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf.filter(|address: &Ipv4Addr| !address.is_loopback()));
        }
    }
    found
}

/// The first word of each line is an address, without colons.
fn local6(table: &str) -> Vec<Ipv6Addr> {
    let words = table.lines().filter_map(|line| line.split(' ').next());
    let addresses = words.filter_map(|word| u128::from_str_radix(word, 16).ok());
    addresses
        .map(Ipv6Addr::from)
        .filter(|address| !address.is_loopback() && !address.is_unicast_link_local())
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.17.0.0\n        /16 link UNICAST\n\
        Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- ADDRESS\n\
        \x20       /32 host LOCAL\n     |-- 172.17.255.255\n        /32 link BROADCAST\n";
    const SIX: &str = "20010db8000000000000000000000007 02 40 00 80     eth0\n\
        fe800000000000000000000000000001 02 40 20 80     eth0\n";

    #[test]
    fn an_interface_has_a_name() {
        let table = format!("{SIX}fe800000000000000000000000000002 0a 40 20 80     eth1\nodd\n");
        assert_eq!(name_of(&table, 2), Some("eth0"));
        assert_eq!(name_of(&table, 10), Some("eth1"));
        assert_eq!(name_of(&table, 3), None);
    }

    #[test]
    fn an_address_is_the_hosts_or_one_containers() {
        let proc = tempfile::tempdir().unwrap();
        let make = |pid: &str, address: &str, six: &str| {
            let net = proc.path().join(pid).join("net");
            fs::create_dir_all(&net).unwrap();
            fs::write(net.join("fib_trie"), TRIE.replace("ADDRESS", address)).unwrap();
            fs::write(net.join("if_inet6"), six).unwrap();
        };
        make("self", "172.17.0.1", "");
        make("7", "172.17.0.2", SIX);
        make("8", "172.17.0.3", "");
        make("9", "172.17.0.3", "");
        make("10", "172.17.0.1", "");
        let running = |pid: u32| Running {
            id: format!("id{pid}"),
            name: format!("c{pid}"),
            pid,
        };
        let mut around = Around::default();
        let mut at = |address: &str| {
            let all = || (7..=10).map(running).collect();
            around.at(address.parse().unwrap(), proc.path(), all)
        };
        let seven = Neighbour::Container {
            id: "id7".to_owned(),
            name: "c7".to_owned(),
        };
        assert_eq!(at("172.17.0.2"), Some(seven.clone()));
        assert_eq!(at("2001:db8::7"), Some(seven));
        assert_eq!(at("172.17.0.1"), Some(Neighbour::Host));
        for nobodys in ["172.17.0.3", "172.17.255.255", "127.0.0.1", "fe80::1"] {
            assert_eq!(at(nobodys), None, "{nobodys}");
        }
    }
}
