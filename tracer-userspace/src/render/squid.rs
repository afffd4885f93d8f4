//! Access lists for the Squid proxy.

use std::{collections::BTreeMap, net::Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::{
    Backend, BadOption, Options, Rendered, RuleSet,
    elements::{self, Elements, Packets},
    header,
    names::{self, Name},
    text,
};
use crate::{
    policy::{denials::without, model::Service},
    record::Protocol,
};

const TOOL: &str = "Squid";

/// Writes a file to be included in `squid.conf`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squid;

/// What may be asked for at one TCP port.
#[derive(Debug, Default)]
struct Port {
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl Backend for Squid {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check_no_scope(TOOL)?;
        options.check_enforces(TOOL)
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::of(rules);
        let mut omissions = elements.omissions.clone();
        let ports = ports(rules, &elements, &mut omissions);
        let how = [
            "Include it in squid.conf before any other http_access line. It judges what clients ask",
            "the proxy for: what does not go through the proxy needs a packet filter. An address is",
            "allowed only where the client asks for it as such: names are never resolved to judge.",
            "",
            "Check:        squid -k parse -f squid.conf",
            "Apply:        squid -k reconfigure",
        ];
        let effect = "ENFORCES: the proxy refuses what no line allows, and logs it as TCP_DENIED.";
        let text = header::brief(rules, effect, &how, &omissions)
            + &header::reasons(&elements.list)
            + "\n"
            + &lists(&ports)
            + "http_access deny all\n";
        Rendered { text, omissions }
    }
}

fn ports(rules: &RuleSet, elements: &Elements, omissions: &mut Vec<String>) -> BTreeMap<u16, Port> {
    let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
    let not_proxied = |what: &str| text::line(&format!("{what}: {TOOL} forwards TCP only"));
    for element in &elements.list {
        match element.packets {
            Packets::Port { protocol, port } if protocol == Protocol::TCP && port != 0 => {
                ports.entry(port).or_default().networks.push(element.to);
            }
            Packets::Port { protocol, port } => {
                omissions.push(not_proxied(&format!("{} {port}/{protocol}", element.to)));
            }
            Packets::Protocol(protocol) => {
                omissions.push(not_proxied(&format!("{} {protocol}", element.to)));
            }
            Packets::Icmp(kind) => {
                omissions.push(not_proxied(&format!("{} icmp {}", element.to, kind.name)));
            }
        }
    }
    for (service, names) in names::by_service(rules, omissions) {
        for name in names {
            match service {
                Service::Port { protocol, port } if protocol == Protocol::TCP && port != 0 => {
                    let known = &mut ports.entry(port).or_default().names;
                    known.push(domain(&name, omissions));
                }
                Service::Port { .. } | Service::Protocol { .. } => {
                    omissions.push(not_proxied(&format!("{} {service}", name.starred())));
                }
            }
        }
    }
    ports
}

/// With a leading dot, it is every name below and the name itself.
fn domain(name: &Name, omissions: &mut Vec<String>) -> String {
    match name {
        Name::Exact(name) => name.clone(),
        Name::Below(parent) => {
            omissions.push(format!("*.{parent}: {parent} itself is allowed too"));
            format!(".{parent}")
        }
    }
}

/// `-n` keeps Squid from resolving what was asked for: a name must not pass as its address, nor
/// an address as the name that its owner claims.
fn lists(ports: &BTreeMap<u16, Port>) -> String {
    let mut out = String::new();
    for (port, Port { names, networks }) in ports {
        out += &format!("acl egress_{port} port {port}\n");
        if !names.is_empty() {
            for name in names.iter().filter(|name| !is_below_another(name, names)) {
                out += &format!("acl egress_{port}_names dstdomain -n {name}\n");
            }
            out += &format!("http_access allow egress_{port} egress_{port}_names\n");
        }
        if !networks.is_empty() {
            // The same addresses without overlaps, about which Squid would warn.
            let networks = IpNet::aggregate(networks);
            for network in networks.into_iter().flat_map(one_family) {
                out += &format!("acl egress_{port}_addresses dst -n {network}\n");
            }
            out += &format!("http_access allow egress_{port} egress_{port}_addresses\n");
        }
        out += "\n";
    }
    out
}

/// To Squid an IPv4 address lies in `::ffff:0:0/96`, so that `::/0` would open all of IPv4; and all
/// of IPv4 can only be said by a word that is all of IPv6 as well.
fn one_family(network: IpNet) -> Vec<IpNet> {
    const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
    match network {
        IpNet::V4(_) => elements::below_all(network),
        IpNet::V6(_) => without(network, IpNet::V6(MAPPED)),
    }
}

/// Squid refuses a name beside one that already covers it.
fn is_below_another(name: &str, names: &[String]) -> bool {
    names
        .iter()
        .filter(|other| other.starts_with('.') && *other != name)
        .any(|other| name.ends_with(other.as_str()) || name == &other[1..])
}
