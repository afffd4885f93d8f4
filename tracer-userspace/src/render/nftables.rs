//! One nftables table for IPv4 and IPv6: named sets of what is allowed, and a counted verdict.

mod tools;

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::{civil::Date, tz::TimeZone};

use super::{
    Backend, NFLOG_GROUP, Options, Rendered, RuleSet, Scope, Verdict,
    elements::{Element, Elements, Family, Packets, is_host},
    header::{self, Commands},
    names, text,
};
use crate::record::Protocol;
use tools::ToolParts;

/// Writes a file for `nft -f`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nftables;

impl Backend for Nftables {
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = options.check() {
            return header::refusal(rules, options, &why);
        }
        let (general, mut omissions) = Part::of(rules, options, "");
        let tools = ToolParts::of(rules, options, &mut omissions);
        omissions.extend(
            header::unselected(&options.scope)
                .into_iter()
                .map(header::unselected_omission),
        );
        let text = header::text(rules, options, &commands(options, &tools), &omissions)
            + &table(rules, options, &general, &tools);
        Rendered { text, omissions }
    }
}

fn commands(options: &Options, tools: &ToolParts) -> Commands {
    let table = &options.table;
    Commands {
        first: tools.cgroups(),
        check: vec!["nft -c -f rules.nft".to_owned()],
        apply: vec!["nft -f rules.nft".to_owned()],
        again: vec!["nft -f rules.nft  # replaces the table in one step".to_owned()],
        undo: vec![format!("nft delete table inet {table}")],
        look: vec![format!("nft list table inet {table}")],
    }
}

/// What a set's elements look like. The order is that in which sets are declared and looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    v6: bool,
    shape: Shape,
    /// Whole networks need an interval set, which single addresses should not pay for.
    networks: bool,
    /// The last day on which the elements hold: the rule that looks a set up looks at the time too.
    expires: Option<Date>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Ports,
    Protocols,
    Icmp,
}

impl Kind {
    fn of(element: &Element) -> Self {
        let shape = match element.packets {
            Packets::Port { .. } => Shape::Ports,
            Packets::Protocol(_) => Shape::Protocols,
            Packets::Icmp(_) => Shape::Icmp,
        };
        let v6 = match Family::of(&element.to) {
            Family::V4 => false,
            Family::V6 => true,
        };
        Self {
            v6,
            shape,
            networks: !is_host(&element.to),
            expires: element.expires,
        }
    }

    fn name(self) -> String {
        let family = if self.v6 { "ipv6" } else { "ipv4" };
        let shape = match self.shape {
            Shape::Ports => "ports",
            Shape::Protocols => "protocols",
            Shape::Icmp => "icmp",
        };
        let reach = if self.networks { "_networks" } else { "" };
        let end = self.expires.map_or_else(String::new, |day| {
            format!(
                "_until_{:04}_{:02}_{:02}",
                day.year(),
                day.month(),
                day.day()
            )
        });
        format!("{family}_{shape}{reach}{end}")
    }

    /// What holds as long as the elements do.
    fn condition(self) -> String {
        in_force(self.expires)
    }

    /// The packet fields that an element consists of.
    fn fields(self) -> &'static str {
        match (self.v6, self.shape) {
            (false, Shape::Ports) => "ip daddr . meta l4proto . th dport",
            (true, Shape::Ports) => "ip6 daddr . meta l4proto . th dport",
            (false, Shape::Protocols) => "ip daddr . meta l4proto",
            (true, Shape::Protocols) => "ip6 daddr . meta l4proto",
            (false, Shape::Icmp) => "ip daddr . icmp type",
            (true, Shape::Icmp) => "ip6 daddr . icmpv6 type",
        }
    }
}

/// What holds until the end of that day, UTC. In seconds since 1970: nft reads a date in the time
/// zone of whoever loads the rules.
pub(super) fn in_force(last_day: Option<Date>) -> String {
    let end = last_day
        .and_then(|last| last.tomorrow().ok())
        .and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    end.map_or_else(String::new, |end| {
        format!("meta time < {} ", end.timestamp().as_second())
    })
}

/// The elements by set. A network inside another one of the same packets is left out, as the
/// kernel refuses overlaps: what covers it comes with it.
#[derive(Debug, Default)]
struct Set {
    elements: Vec<Element>,
    /// The element left out, and the network it lies in.
    covered: Vec<(Element, IpNet)>,
}

fn sets(elements: Vec<Element>) -> BTreeMap<Kind, Set> {
    let mut sets: BTreeMap<Kind, Set> = BTreeMap::new();
    // Sorted by address, then by prefix length: a covering network comes before what it covers.
    let mut widest: BTreeMap<(bool, Packets, Option<Date>), IpNet> = BTreeMap::new();
    for element in elements {
        let kind = Kind::of(&element);
        let set = sets.entry(kind).or_default();
        let before = widest
            .get(&(kind.v6, element.packets, kind.expires))
            .copied();
        match before.filter(|net| kind.networks && net.contains(&element.to)) {
            Some(net) => set.covered.push((element, net)),
            None => {
                if kind.networks {
                    widest.insert((kind.v6, element.packets, kind.expires), element.to);
                }
                set.elements.push(element);
            }
        }
    }
    sets
}

/// What is allowed to everybody, or to one tool: sets, and the rules that look into them.
struct Part {
    /// What the names of its sets begin with.
    prefix: String,
    sets: BTreeMap<Kind, Set>,
    names: names::Sets,
}

impl Part {
    /// With what cannot be expressed.
    fn of(rules: &RuleSet, options: &Options, prefix: &str) -> (Self, Vec<String>) {
        let elements = match options.name_sets {
            true => Elements::of(rules),
            false => Elements::without_names(rules),
        };
        let mut omissions = elements.omissions;
        let names = match options.name_sets {
            true => names::sets(rules, &mut omissions),
            false => names::Sets::default(),
        };
        let part = Self {
            prefix: prefix.to_owned(),
            sets: sets(elements.list),
            names,
        };
        (part, omissions)
    }

    /// Of its own sets: those of names are shared.
    fn declarations(&self) -> String {
        let sets = self.sets.iter();
        sets.map(|(kind, set)| declaration(&self.name(*kind), *kind, set))
            .collect()
    }

    fn name(&self, kind: Kind) -> String {
        format!("{}{}", self.prefix, kind.name())
    }

    fn lookups(&self) -> String {
        let lookup = |kind: &Kind| {
            let (condition, fields, name) = (kind.condition(), kind.fields(), self.name(*kind));
            format!("\t\t{condition}{fields} @{name} accept\n")
        };
        self.sets.keys().map(lookup).collect::<String>() + &self.names.lookups()
    }
}

fn table(rules: &RuleSet, options: &Options, general: &Part, tools: &ToolParts) -> String {
    let name = &options.table;
    let mut out = format!(
        "\n# Declare, delete, define: one transaction, whether the table exists or not.\n\
         table inet {name}\ndelete table inet {name}\n\ntable inet {name} {{\n\
         \tcounter not_allowed {{\n\t}}\n"
    );
    out += &general.declarations();
    out += &tools.declarations();
    out += &names::Sets::joined(tools.names().chain([general.names.clone()])).declarations();
    out += &tools.chains();
    out += &format!("\n\tchain {} {{\n", options.chain);
    out += &fixed_block(&options.scope);
    out += &general.lookups();
    out += &tools.jumps();
    out += &verdict_rules(&rules.workload, options.verdict);
    out += "\t}\n";
    out += &hook_chain(options);
    out += "}\n";
    out
}

fn declaration(name: &str, kind: Kind, set: &Set) -> String {
    let mut out = format!("\n\tset {name} {{\n\t\ttypeof {}\n", kind.fields());
    if kind.networks {
        out += "\t\tflags interval\n";
    }
    out += "\t\tcounter\n\t\telements = {\n";
    for (element, net) in &set.covered {
        let (key, comment) = (key(element), text::comment(&element.comment));
        out += &format!("\t\t\t# {key} lies in {net}: {comment}\n");
    }
    for element in &set.elements {
        out += &format!("\t\t\t{}{},\n", key(element), comment(&element.comment));
    }
    out + "\t\t}\n\t}\n"
}

fn key(element: &Element) -> String {
    let to = match is_host(&element.to) {
        true => element.to.addr().to_string(),
        false => element.to.to_string(),
    };
    match element.packets {
        Packets::Port { protocol, port } => format!("{to} . {} . {port}", protocol_word(protocol)),
        Packets::Protocol(protocol) => format!("{to} . {}", protocol_word(protocol)),
        Packets::Icmp(kind) => format!("{to} . {}", kind.name),
    }
}

/// The names that are words of nft's own grammar; for others it would need `/etc/protocols`.
pub(super) fn protocol_word(protocol: Protocol) -> String {
    let own = [
        Protocol::ICMP,
        Protocol::TCP,
        Protocol::UDP,
        Protocol::DCCP,
        Protocol::ICMPV6,
        Protocol::SCTP,
        Protocol::UDPLITE,
    ];
    if own.contains(&protocol) {
        protocol.to_string()
    } else {
        protocol.0.to_string()
    }
}

fn comment(text: &str) -> String {
    let text = text::comment(text);
    if text.is_empty() {
        text
    } else {
        format!(" comment \"{text}\"")
    }
}

/// What passes whatever the rules are.
fn fixed_block(scope: &Scope) -> String {
    let loopback = match scope {
        Scope::Namespace | Scope::Cgroup { .. } => "\t\toifname \"lo\" accept\n",
        Scope::Forward { .. } => "",
    };
    format!(
        "\
\t\t# Always passes: answers and open connections with their errors, loopback,
\t\t# path-MTU errors, and what IPv6 needs to find its neighbours (with multicast reports,
\t\t# without which switches may not deliver the questions).
\t\tct state established,related accept
{loopback}\
\t\ticmp type destination-unreachable icmp code frag-needed accept
\t\ticmpv6 type packet-too-big accept
\t\tip6 hoplimit 255 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
\t\tip6 daddr ff02::/16 icmpv6 type {{ mld-listener-report, mld-listener-done, mld2-listener-report }} accept

\t\t# Allowed, one element each.
"
    )
}

fn verdict_rules(workload: &str, verdict: Verdict) -> String {
    let (word, last) = match verdict {
        Verdict::Log => ("log", "\t\taccept comment \"dry run\"\n"),
        Verdict::Drop => ("drop", "\t\tdrop\n"),
        // The longer spelling is the one that nft releases before 1.0.3 read as well.
        Verdict::Reject => (
            "reject",
            "\t\tmeta l4proto tcp reject with tcp reset\n\
             \t\treject with icmpx type admin-prohibited\n",
        ),
    };
    let prefix = text::log_prefix(word, workload);
    format!(
        "\n\t\t# Everything else.\n\t\tcounter name not_allowed\n\
         \t\tlimit rate 10/second burst 20 packets log prefix \"{prefix}\" group {NFLOG_GROUP}\n{last}"
    )
}

/// The chain that the kernel calls: whose traffic is judged.
fn hook_chain(options: &Options) -> String {
    let hook = match options.scope {
        Scope::Namespace | Scope::Cgroup { .. } => "output",
        Scope::Forward { .. } => "forward",
    };
    let mut out = format!(
        "\n\tchain {}_hook {{\n\t\ttype filter hook {hook} priority filter; policy accept;\n",
        options.chain
    );
    for selector in selectors(&options.scope) {
        out += &format!("\t\t{selector}jump {}\n", options.chain);
    }
    out + "\t}\n"
}

/// What selects the traffic: any of these.
fn selectors(scope: &Scope) -> Vec<String> {
    match scope {
        Scope::Namespace => vec![String::new()],
        Scope::Cgroup { path } => vec![cgroup_match(path)],
        Scope::Forward { sources, interface } => {
            let interface = interface
                .as_ref()
                .map_or_else(String::new, |name| format!("iifname \"{name}\" "));
            if sources.is_empty() {
                return vec![interface];
            }
            sources
                .iter()
                .map(|source| format!("{interface}{}", source_match(source)))
                .collect()
        }
    }
}

/// The sockets that were made in a cgroup or below it.
fn cgroup_match(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    let level = path.split('/').count();
    format!("socket cgroupv2 level {level} \"{path}\" ")
}

fn source_match(source: &IpNet) -> String {
    let word = match Family::of(source) {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    format!("{word} saddr {} ", source.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Format, Origin, examples};

    fn render(scope: Scope, verdict: Verdict) -> Rendered {
        let options = Options {
            scope,
            ..Options::new(verdict)
        };
        Format::Nftables
            .backend()
            .render(&examples::mixed(Origin::Candidate), &options)
    }

    #[test]
    fn a_candidate_in_full() {
        let made = render(Scope::Namespace, Verdict::Log);
        assert_eq!(made.text, CANDIDATE);
        assert_eq!(made.omissions.len(), 1);
    }

    #[test]
    fn a_cgroup_is_matched_at_its_depth() {
        let path = r"/system.slice/a\x2db.service".to_owned();
        let made = render(Scope::Cgroup { path }, Verdict::Drop);
        let selector = r#"socket cgroupv2 level 2 "system.slice/a\x2db.service" jump egress"#;
        assert!(made.text.contains(selector), "{}", made.text);
        assert!(made.text.contains("\t\tdrop\n"), "{}", made.text);
    }

    #[test]
    fn one_family_of_sources_leaves_the_other_unjudged_and_says_so() {
        let sources = vec![IpNet::from(std::net::IpAddr::from([203, 0, 113, 9]))];
        let made = render(
            Scope::Forward {
                sources,
                interface: None,
            },
            Verdict::Drop,
        );
        let said =
            "no IPv6 source was given: forwarded IPv6 traffic is not judged, all of it passes";
        assert_eq!(made.omissions.last().map(String::as_str), Some(said));
        assert!(made.text.contains(said), "{}", made.text);
        assert!(
            made.text
                .contains("\t\tip saddr 203.0.113.9/32 jump egress\n")
        );
    }

    #[test]
    fn options_that_cannot_be_matched_give_no_rules() {
        let made = render(
            Scope::Cgroup {
                path: "a\"b".to_owned(),
            },
            Verdict::Drop,
        );
        assert_eq!(made.omissions.len(), 1);
        assert!(
            made.text.lines().all(|line| line.starts_with('#')),
            "{}",
            made.text
        );
    }

    const CANDIDATE: &str = r##"# egress-tracer rules for workload shop_agent
# CANDIDATE, made from observation; nobody has reviewed it.
# DRY RUN: what no rule allows is counted and logged, and passes. To enforce: --verdict drop or reject.
#
# Judges everything that leaves the network namespace they are loaded in: enter the
# container's, as below. In the host's own they judge the whole host.
# Docker's DNS, 127.0.0.11, goes out through lo, which passes. dockerd asks the servers
# behind it from inside this namespace: those need rules like any other destination.
# Restart: a restarted container has a new namespace, without these rules: everything
# passes until they are applied again.
#
# Check:       nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n nft -c -f rules.nft
# Apply:       nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n nft -f rules.nft
# Apply again: nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n nft -f rules.nft  # replaces the table in one step
# Undo:        nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n nft delete table inet egress_tracer
# Counters:    nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n nft list table inet egress_tracer
# Log:         nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n tshark -i nflog:5
#
# Not in these rules:
#   198.51.100.7/32 icmp/no-such-type: IPv4 has no icmp type of this name

# Declare, delete, define: one transaction, whether the table exists or not.
table inet egress_tracer
delete table inet egress_tracer

table inet egress_tracer {
	counter not_allowed {
	}

	set ipv4_ports {
		typeof ip daddr . meta l4proto . th dport
		counter
		elements = {
			198.51.100.7 . tcp . 443 comment "api.example.com (curl)",
		}
	}

	set ipv4_ports_networks {
		typeof ip daddr . meta l4proto . th dport
		flags interval
		counter
		elements = {
			# 198.51.100.0/25 . tcp . 443 lies in 198.51.100.0/24: cdn.example.com
			198.51.100.0/24 . tcp . 443 comment "cdn.example.com",
		}
	}

	set ipv4_protocols {
		typeof ip daddr . meta l4proto
		counter
		elements = {
			198.51.100.7 . 47,
		}
	}

	set ipv6_ports {
		typeof ip6 daddr . meta l4proto . th dport
		counter
		elements = {
			2001:db8::7 . udp . 53 comment "?; flush ruleset; ?",
		}
	}

	set ipv6_icmp {
		typeof ip6 daddr . icmpv6 type
		counter
		elements = {
			2001:db8::7 . echo-request comment "ping",
		}
	}

	chain egress {
		# Always passes: answers and open connections with their errors, loopback,
		# path-MTU errors, and what IPv6 needs to find its neighbours (with multicast reports,
		# without which switches may not deliver the questions).
		ct state established,related accept
		oifname "lo" accept
		icmp type destination-unreachable icmp code frag-needed accept
		icmpv6 type packet-too-big accept
		ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
		ip6 daddr ff02::/16 icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept

		# Allowed, one element each.
		ip daddr . meta l4proto . th dport @ipv4_ports accept
		ip daddr . meta l4proto . th dport @ipv4_ports_networks accept
		ip daddr . meta l4proto @ipv4_protocols accept
		ip6 daddr . meta l4proto . th dport @ipv6_ports accept
		ip6 daddr . icmpv6 type @ipv6_icmp accept

		# Everything else.
		counter name not_allowed
		limit rate 10/second burst 20 packets log prefix "egress-tracer log shop_agent " group 5
		accept comment "dry run"
	}

	chain egress_hook {
		type filter hook output priority filter; policy accept;
		jump egress
	}
}
"##;
}
