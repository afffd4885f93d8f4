//! The rules that hand questions and answers to a queue, and count what nobody held.
//!
//! They are a table of their own, so that loading the policy's rules again leaves them alone. What is
//! queued passes if nobody is there to look at it (`bypass`).

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{
    names::approved::{Approved, DNS_PORT},
    record::Protocol,
    render::{Scope, elements::is_host},
};

/// Set on what was looked at, for the few steps until it is counted.
pub(crate) const HELD: u32 = 0x0800_0000;

/// The name of the table beside `table`.
pub(crate) fn table_name(table: &str) -> String {
    format!("{table}_names")
}

/// A file for `nft -f`, in the same place as the rules: one transaction, whether the table exists
/// or not.
///
/// Nothing that comes in through `lo` is an answer: whoever may send raw packets could write it. The
/// resolver of a container engine asks its own servers from inside the container's namespace, and
/// those answers come from outside.
pub(crate) fn table(table: &str, queue: u16, scope: &Scope, approved: &Approved) -> String {
    let name = table_name(table);
    let mut out = format!(
        "table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n\
         \tcounter questions {{ }}\n\tcounter answers {{ }}\n\tcounter unheld {{ }}\n"
    );
    let question = |from: &str| matches(approved, from, End::Destination);
    let answer = |to: &str| matches(approved, to, End::Source);
    let (questions, answers): (Vec<_>, Vec<_>) = match scope {
        Scope::Namespace | Scope::Cgroup { .. } => (
            vec![("output", question("oifname != \"lo\" "))],
            vec![("input", answer("iifname != \"lo\" "))],
        ),
        Scope::Forward { sources, interface } => {
            let from = selectors(sources, interface.as_deref(), Towards::Out);
            let to = selectors(sources, interface.as_deref(), Towards::In);
            let asked = || from.iter().flat_map(|each| question(each)).collect();
            let answered = || to.iter().flat_map(|each| answer(each)).collect();
            (
                vec![("forward", asked()), ("input", asked())],
                vec![("forward", answered()), ("output", answered())],
            )
        }
    };
    for (hook, rules) in &questions {
        out += &chain(&format!("questions_{hook}"), hook, 10, rules, |rule| {
            format!("{rule} counter name questions queue num {queue} bypass")
        });
    }
    for (hook, rules) in &answers {
        out += &chain(&format!("answers_{hook}"), hook, 11, rules, |rule| {
            format!("{rule} ct direction reply counter name answers queue num {queue} bypass")
        });
        out += &chain(&format!("unheld_{hook}"), hook, 12, rules, |rule| {
            format!(
                "{rule} ct direction reply meta mark & {HELD:#x} == 0 counter name unheld\n\
                 \t\t{rule} ct direction reply meta mark set meta mark & {:#x}",
                !HELD
            )
        });
    }
    out + "}\n"
}

fn chain(
    name: &str,
    hook: &str,
    priority: u8,
    rules: &[String],
    line: impl Fn(&str) -> String,
) -> String {
    let mut out = format!(
        "\tchain {name} {{\n\t\ttype filter hook {hook} priority filter + {priority}; policy accept;\n"
    );
    for rule in rules {
        out += &format!("\t\t{}\n", line(rule));
    }
    out + "\t}\n"
}

/// Which end of a packet is the resolver's.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

#[derive(Clone, Copy)]
enum Towards {
    /// From the workload.
    Out,
    /// To it.
    In,
}

/// One match for each address family and transport that a resolver is approved for.
fn matches(approved: &Approved, before: &str, end: End) -> Vec<String> {
    let (field, port) = match end {
        End::Source => ("saddr", "sport"),
        End::Destination => ("daddr", "dport"),
    };
    let of = |protocol: Protocol, is_v4: bool| -> BTreeSet<String> {
        let all = approved.resolvers().filter(|(_, one)| *one == protocol);
        all.map(|(network, _)| network)
            .filter(|network| matches!(network, IpNet::V4(_)) == is_v4)
            .map(network_text)
            .collect()
    };
    let mut found = Vec::new();
    for protocol in [Protocol::UDP, Protocol::TCP] {
        for (is_v4, word) in [(true, "ip"), (false, "ip6")] {
            let networks: Vec<String> = of(protocol, is_v4).into_iter().collect();
            if !networks.is_empty() {
                let networks = networks.join(", ");
                found.push(format!(
                    "{before}{word} {field} {{ {networks} }} {protocol} {port} {DNS_PORT}"
                ));
            }
        }
    }
    found
}

/// An address range of nothing but resolvers may hold a single one twice, which a set refuses.
fn network_text(network: &IpNet) -> String {
    match is_host(network) {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

/// Whose packets, as the rules select them. What comes in where the workload is attached is no
/// answer.
fn selectors(sources: &[IpNet], interface: Option<&str>, towards: Towards) -> Vec<String> {
    let (in_or_out, field) = match towards {
        Towards::Out => ("iifname", "saddr"),
        Towards::In => ("oifname", "daddr"),
    };
    let interface = interface.map_or_else(String::new, |name| match towards {
        Towards::Out => format!("{in_or_out} \"{name}\" "),
        Towards::In => format!("{in_or_out} \"{name}\" iifname != \"{name}\" "),
    });
    if sources.is_empty() {
        return vec![interface];
    }
    let source = |source: &IpNet| {
        let word = match source {
            IpNet::V4(_) => "ip",
            IpNet::V6(_) => "ip6",
        };
        format!("{interface}{word} {field} {} ", network_text(source))
    };
    sources.iter().map(source).collect()
}
