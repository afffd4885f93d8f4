//! The rules that hand questions and answers to a queue, and count what nobody held.
//!
//! They are a table of their own, so that loading the policy's rules again leaves them alone, and
//! come after those have decided. What is queued passes if nobody is there to look at it (`bypass`).
//! Nothing that comes in through `lo` is an answer: whoever may send raw packets could write it. The
//! resolver of a container engine asks its own servers from inside the container's namespace, and
//! those answers come from outside.

use ipnet::IpNet;

use crate::{
    names::approved::{Approved, DNS_PORT},
    record::Protocol,
    render::{Scope, elements::is_host},
};

/// Set on what was looked at, for the few steps until it is counted.
pub(crate) const HELD: u32 = 0x0800_0000;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Question,
    Answer,
}

/// By which interface a packet comes or goes, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) is: bool,
}

/// The packets of one role, resolver and transport at one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// `input`, `output` or `forward`.
    pub(super) hook: &'static str,
    pub(super) role: Role,
    pub(super) comes_by: Option<Interface>,
    pub(super) goes_by: Option<Interface>,
    /// The workload's.
    pub(super) client: Option<IpNet>,
    pub(super) resolver: IpNet,
    pub(super) protocol: Protocol,
}

/// The name of the table beside `table`.
pub(crate) fn table_name(table: &str) -> String {
    format!("{table}_names")
}

/// Everything that is looked at, where the policy's rules are.
pub(super) fn matches(scope: &Scope, approved: &Approved) -> Vec<Match> {
    let resolvers = approved.resolvers();
    resolvers
        .flat_map(|(resolver, protocol)| {
            let of = |hook, role, comes_by, goes_by, client: Option<&IpNet>| Match {
                hook,
                role,
                comes_by,
                goes_by,
                client: client.copied(),
                resolver: *resolver,
                protocol: *protocol,
            };
            match scope {
                Scope::Namespace | Scope::Cgroup { .. } => vec![
                    of("output", Role::Question, None, interface("lo", false), None),
                    of("input", Role::Answer, interface("lo", false), None, None),
                ],
                Scope::Forward {
                    sources,
                    interface: name,
                } => {
                    let by = |is| name.as_ref().and_then(|name| interface(name, is));
                    // A source of one address family asks no resolver of the other.
                    let is_alike = |source: &&IpNet| is_v4(source) == is_v4(resolver);
                    let mut clients: Vec<Option<&IpNet>> =
                        sources.iter().filter(is_alike).map(Some).collect();
                    if sources.is_empty() {
                        clients.push(None);
                    }
                    // A resolver may be on this host, and then nothing is forwarded.
                    let all = |client: Option<&IpNet>| {
                        [
                            of("forward", Role::Question, by(true), None, client),
                            of("input", Role::Question, by(true), None, client),
                            of("forward", Role::Answer, by(false), by(true), client),
                            of("output", Role::Answer, None, by(true), client),
                        ]
                    };
                    clients.into_iter().flat_map(all).collect()
                }
            }
        })
        .collect()
}

fn interface(name: &str, is: bool) -> Option<Interface> {
    Some(Interface {
        name: name.to_owned(),
        is,
    })
}

/// Where what was not held is counted: after nftables' own queue, or after that of iptables, whose
/// table `security` is at 50 or, by way of nftables, at 150.
const AFTER_QUEUE: i32 = 60;
const AFTER_IPTABLES: i32 = 160;

/// A file for `nft -f`: one transaction, whether the table exists or not. Without `queue` it only
/// counts: something else hands packets over.
pub(super) fn table(table: &str, queue: Option<u16>, matches: &[Match]) -> String {
    let name = table_name(table);
    let mut out = format!(
        "table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n\
         \tcounter answers {{\n\t}}\n\tcounter unheld {{\n\t}}\n"
    );
    let of = |hook: &str, role: Option<Role>| -> Vec<String> {
        let here = matches.iter().filter(|each| each.hook == hook);
        here.filter(|each| role.is_none_or(|role| role == each.role))
            .map(nft)
            .collect()
    };
    let after = queue.map_or(AFTER_IPTABLES, |_| AFTER_QUEUE);
    for hook in ["input", "forward", "output"] {
        let answers = of(hook, Some(Role::Answer));
        out += &chain("answers", hook, 40, &answers, &["counter name answers"]);
        if let Some(queue) = queue {
            let line = format!("queue num {queue} bypass");
            out += &chain("queue", hook, 50, &of(hook, None), &[&line]);
        }
        let unheld = format!("meta mark & {HELD:#x} == 0 counter name unheld");
        let clear = format!("meta mark set meta mark & {:#x}", !HELD);
        out += &chain("unheld", hook, after, &answers, &[&unheld, &clear]);
    }
    out + "}\n"
}

fn chain(what: &str, hook: &str, priority: i32, matches: &[String], lines: &[&str]) -> String {
    if matches.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\tchain {what}_{hook} {{\n\t\ttype filter hook {hook} priority {priority}; policy accept;\n"
    );
    for line in lines {
        for each in matches {
            out += &format!("\t\t{each}{line}\n");
        }
    }
    out + "\t}\n"
}

fn nft(each: &Match) -> String {
    let interface = |word: &str, by: &Option<Interface>| match by {
        Some(Interface { name, is: true }) => format!("{word} \"{name}\" "),
        Some(Interface { name, is: false }) => format!("{word} != \"{name}\" "),
        None => String::new(),
    };
    let word = match is_v4(&each.resolver) {
        true => "ip",
        false => "ip6",
    };
    let (resolver, port, client, state) = match each.role {
        Role::Question => ("daddr", "dport", "saddr", ""),
        Role::Answer => ("saddr", "sport", "daddr", "ct direction reply "),
    };
    let client = each.client.map_or_else(String::new, |network| {
        format!("{word} {client} {} ", network_text(&network))
    });
    format!(
        "{}{}{client}{word} {resolver} {} {} {port} {DNS_PORT} {state}",
        interface("iifname", &each.comes_by),
        interface("oifname", &each.goes_by),
        network_text(&each.resolver),
        each.protocol,
    )
}

pub(super) fn is_v4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

/// A single address as such: the tools take both, and people read this more easily.
pub(super) fn network_text(network: &IpNet) -> String {
    match is_host(network) {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::approved::tests::approved;

    #[test]
    fn what_comes_in_where_the_workload_is_attached_is_no_answer() {
        let scope = Scope::Forward {
            sources: Vec::new(),
            interface: Some("docker0".to_owned()),
        };
        let matches = matches(&scope, &approved(&[("a.example", "443/tcp")]));
        let forwarded: Vec<String> = matches
            .iter()
            .filter(|each| each.hook == "forward" && each.role == Role::Answer)
            .map(nft)
            .collect();
        assert_eq!(
            forwarded,
            [
                "iifname != \"docker0\" oifname \"docker0\" ip saddr 198.51.100.53 tcp sport 53 \
                 ct direction reply ",
                "iifname != \"docker0\" oifname \"docker0\" ip saddr 198.51.100.53 udp sport 53 \
                 ct direction reply ",
            ]
        );
    }
}
