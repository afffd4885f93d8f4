//! `iptables-save` and `ip6tables-save`: what the chains below OUTPUT and FORWARD accept.
//!
//! RETURN accepts as well in a chain that ends by closing everything: that is how ours are made.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::list::{self, List};
use crate::{policy::model::Service, record::Protocol};

/// One `-A` or `-I` line.
#[derive(Debug, Default)]
struct Rule {
    chain: String,
    target: String,
    to: Option<IpNet>,
    protocol: Option<Protocol>,
    ports: Vec<(u16, u16)>,
    icmp: Option<String>,
    opens_nothing: bool,
    /// What is not understood.
    unknown: Option<String>,
}

pub(super) fn is(text: &str) -> bool {
    let mut lines = text.lines();
    lines.any(|line| line.trim() == "*filter") && text.lines().any(|line| line.trim() == "COMMIT")
}

pub(super) fn read(text: &str, list: &mut List) {
    let is_v6 = text.lines().any(|line| line.contains("icmpv6-type"))
        || text.contains("ip6tables")
        || text
            .lines()
            .filter_map(|line| rule(line)?.to)
            .any(|to| matches!(to, IpNet::V6(_)));
    let mut table = "";
    let mut rules = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if table == "filter" {
            rules.extend(rule(line));
        }
    }
    let chains = chains(&rules);
    for rule in rules
        .iter()
        .filter(|rule| chains.contains(rule.chain.as_str()))
    {
        let closes = |chain: &str| {
            rules
                .iter()
                .any(|rule| rule.chain == chain && rule.closes())
        };
        rule.tell(is_v6, closes(&rule.chain), list);
    }
    let other = if is_v6 { "IPv4" } else { "IPv6" };
    list.note(format!(
        "{other} is not in this list: give the other family's as well"
    ));
}

/// Those that packets pass on their way out.
fn chains(rules: &[Rule]) -> BTreeSet<&str> {
    let mut found = BTreeSet::from(["OUTPUT", "FORWARD"]);
    loop {
        let before = found.len();
        let more: Vec<&str> = rules
            .iter()
            .filter(|rule| found.contains(rule.chain.as_str()))
            .map(|rule| rule.target.as_str())
            .collect();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

fn rule(line: &str) -> Option<Rule> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    if !["-A", "-I"].contains(&words.next()?) {
        return None;
    }
    let mut rule = Rule {
        chain: words.next()?.to_owned(),
        ..Rule::default()
    };
    while let Some(word) = words.next() {
        rule.word(word, &mut words);
    }
    Some(rule)
}

impl Rule {
    fn word<'w>(&mut self, word: &str, rest: &mut impl Iterator<Item = &'w str>) {
        let unknown = |word: &str, value: &str| Some(format!("{word} {value}"));
        match word {
            "-m" | "--match" | "--comment" | "-s" | "--source" | "-i" | "--in-interface"
            | "--path" | "--reject-with" | "--nflog-group" | "--nflog-prefix" => {
                rest.next();
            }
            "-j" | "--jump" | "-g" | "--goto" => {
                rest.next().unwrap_or("").clone_into(&mut self.target)
            }
            "-d" | "--destination" => {
                let value = rest.next().unwrap_or("");
                self.to = list::network(value);
                if self.to.is_none() {
                    self.unknown = unknown(word, value);
                }
            }
            "-p" | "--protocol" => {
                let value = rest.next().unwrap_or("");
                match (value, list::protocol(value)) {
                    ("all" | "0", _) => {}
                    (_, Some(protocol)) => self.protocol = Some(protocol),
                    (_, None) => self.unknown = unknown(word, value),
                }
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                let value = rest.next().unwrap_or("");
                match value.split(',').map(ports).collect() {
                    Some(all) => self.ports = all,
                    None => self.unknown = unknown(word, value),
                }
            }
            "--icmp-type" | "--icmpv6-type" => self.icmp = rest.next().map(str::to_owned),
            "-o" | "--out-interface" => match rest.next() {
                Some("lo") => self.opens_nothing = true,
                Some(other) => self.unknown = unknown(word, other),
                None => {}
            },
            "--ctstate" | "--state" => {
                let states = rest.next().unwrap_or("");
                self.opens_nothing |= !states.split(',').any(|state| state == "NEW");
            }
            other => self.unknown = unknown(other, rest.next().unwrap_or("")),
        }
    }

    /// Whether nothing comes past it.
    fn closes(&self) -> bool {
        let is_bare = self.to.is_none() && self.protocol.is_none() && self.unknown.is_none();
        is_bare
            && !self.opens_nothing
            && ["DROP", "REJECT", "RETURN"].contains(&self.target.as_str())
    }

    fn tell(&self, is_v6: bool, is_closed: bool, list: &mut List) {
        let is_allowed = match self.target.as_str() {
            "ACCEPT" => true,
            "RETURN" if is_closed => !self.closes(),
            "DROP" | "REJECT" => false,
            _other => return,
        };
        if self.opens_nothing || (!is_allowed && self.to.is_none()) {
            return;
        }
        let everywhere = list::everywhere()[usize::from(is_v6)];
        let to = list::target(self.to.unwrap_or(everywhere));
        match (&self.unknown, self.services()) {
            (None, Some(services)) if is_allowed => list.allow(to, &services, None),
            (None, Some(services)) => list.deny(&to, &services),
            (unknown, _) if is_allowed => {
                let what = unknown.as_deref().unwrap_or("its type");
                list.note(format!(
                    "a rule of {} for {to} is not understood: {what}",
                    self.chain
                ));
            }
            (_, _) => {}
        }
    }

    fn services(&self) -> Option<Vec<Service>> {
        let Some(protocol) = self.protocol else {
            return Some(list::any_service());
        };
        if let Some(kind) = &self.icmp {
            // A code narrows a type that has no name of its own.
            let number = kind.parse::<u8>().ok()?;
            return list::icmp(protocol, number).map(|service| vec![service]);
        }
        if self.ports.is_empty() {
            return Some(vec![list::all_of(protocol)]);
        }
        let each = self.ports.iter().flat_map(|(from, to)| *from..=*to);
        Some(each.map(|port| list::port(protocol, port)).collect())
    }
}

/// `443`, `1000:2000`.
fn ports(text: &str) -> Option<(u16, u16)> {
    match text.split_once(':') {
        Some((from, to)) => Some((from.parse().ok()?, to.parse().ok()?)),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

/// Words as iptables-restore splits them: in double quotes, with backslashes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                any = true;
            }
            '\\' if is_quoted => word.extend(characters.next()),
            space if space.is_whitespace() && !is_quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
            }
            other => word.push(other),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
