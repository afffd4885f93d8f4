//! Input for `iptables-restore` and `ip6tables-restore`: a chain of our own, and a jump to it.

use ipnet::IpNet;

use super::{
    Backend, DEFAULT_TABLE, NFLOG_GROUP, Options, Rendered, RuleSet, Scope, Verdict,
    elements::{Element, Elements, Family, Packets},
    header::{self, Commands},
    ipset, text,
};
use crate::record::Protocol;

/// Writes one address family's rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iptables {
    family: Family,
    /// Whether what a set can hold is looked up in the sets of [`ipset`].
    sets: bool,
}

impl Iptables {
    pub(super) const V4: Self = Self::new(Family::V4, false);
    pub(super) const V6: Self = Self::new(Family::V6, false);
    pub(super) const V4_SETS: Self = Self::new(Family::V4, true);
    pub(super) const V6_SETS: Self = Self::new(Family::V6, true);

    const fn new(family: Family, sets: bool) -> Self {
        Self { family, sets }
    }

    fn tool(self) -> &'static str {
        match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn file(self) -> &'static str {
        match (self.family, self.sets) {
            (Family::V4, false) => "rules.v4",
            (Family::V6, false) => "rules.v6",
            (Family::V4, true) => "rules-ipset.v4",
            (Family::V6, true) => "rules-ipset.v6",
        }
    }

    fn other(self) -> Self {
        match self.family {
            Family::V4 => Self::new(Family::V6, self.sets),
            Family::V6 => Self::new(Family::V4, self.sets),
        }
    }
}

impl Backend for Iptables {
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = options.check() {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::without_names(rules);
        let mut omissions = elements.omissions.clone();
        omissions.extend(self.inexpressible(&elements));
        omissions.extend(other_table(&options.table));
        omissions.extend(
            header::unselected(&options.scope)
                .into_iter()
                .filter(|family| *family == self.family)
                .map(header::unselected_omission),
        );
        let jumps = self.jumps(options);
        let text = header::text(rules, options, &self.commands(options, &jumps), &omissions)
            + &self.other_family(&elements)
            + &self.table(rules, options, &elements, &jumps);
        Rendered { text, omissions }
    }
}

impl Iptables {
    fn commands(self, options: &Options, jumps: &[Jump]) -> Commands {
        let (tool, file, chain) = (self.tool(), self.file(), &options.chain);
        let restore = format!("{tool}-restore -w --noflush {file}");
        let fill = self.sets.then(|| ipset::RESTORE.to_owned());
        let unjump = jumps
            .iter()
            .map(|jump| format!("{tool} -w -D {}", jump.rule(text::shell_word)));
        let again = format!("{restore}  # then remove the jump it doubled:");
        let remove = [
            format!("{tool} -w -F {chain}"),
            format!("{tool} -w -X {chain}"),
        ];
        let test = format!("{tool}-restore -w --noflush --test {file}");
        let destroy = self.sets.then(|| ipset::destroy(chain, self.family));
        Commands {
            first: Vec::new(),
            // Looking a set up needs the set.
            check: fill.clone().into_iter().chain([test]).collect(),
            apply: fill.clone().into_iter().chain([restore]).collect(),
            again: fill
                .into_iter()
                .chain([again])
                .chain(unjump.clone())
                .collect(),
            undo: unjump.chain(remove).chain(destroy).collect(),
            look: vec![format!("{tool} -w -L {chain} -n -v -x")],
        }
    }

    fn inexpressible(self, elements: &Elements) -> impl Iterator<Item = String> {
        elements
            .list
            .iter()
            .filter(move |each| Family::of(&each.to) == self.family && is_any(each.packets))
            .map(|each| {
                format!(
                    "{} ip-0: iptables reads protocol 0 as any protocol",
                    each.to
                )
            })
    }

    fn other_family(self, elements: &Elements) -> String {
        let other = self.other();
        format!(
            "#\n# {} rules are for {} ({}): {}. Without that file {} is not judged at all.\n",
            other.family.name(),
            other.tool(),
            other.file(),
            elements.count(other.family),
            other.family.name(),
        )
    }

    fn table(
        self,
        rules: &RuleSet,
        options: &Options,
        elements: &Elements,
        jumps: &[Jump],
    ) -> String {
        let chain = &options.chain;
        let mut out = format!("\n*filter\n# Creates the chain, or empties it.\n:{chain} - [0:0]\n");
        let in_set = |each: &Element| self.sets && ipset::holds(each);
        let own = |each: &&Element| {
            Family::of(&each.to) == self.family && !is_any(each.packets) && !in_set(each)
        };
        let lookup = self.sets.then(|| {
            let name = ipset::set_name(chain, self.family);
            format!("-m set --match-set {name} dst,dst -j RETURN")
        });
        let singly = elements.list.iter().filter(own).map(allow);
        let allowed = lookup.into_iter().chain(singly).collect();
        let blocks: [(&str, Vec<String>); 3] = [
            ("Always passes.", self.fixed_block(&options.scope)),
            (self.allowed_title(), allowed),
            (
                "Everything else.",
                self.verdict_rules(&rules.workload, options.verdict),
            ),
        ];
        for (title, block) in blocks {
            out += &format!("# {title}\n");
            for rule in block {
                out += &format!("-A {chain} {rule}\n");
            }
        }
        for jump in jumps {
            out += &format!("-I {}\n", jump.rule(quoted));
        }
        out + "COMMIT\n"
    }

    fn allowed_title(self) -> &'static str {
        if self.sets {
            "Allowed: what is in the set, and one rule each for what a set cannot hold."
        } else {
            "Allowed, one rule each."
        }
    }

    /// What passes whatever the rules are.
    fn fixed_block(self, scope: &Scope) -> Vec<String> {
        let mut block = vec![pass(
            "-m conntrack --ctstate ESTABLISHED,RELATED",
            "open connections",
        )];
        match scope {
            Scope::Namespace | Scope::Cgroup { .. } => block.push(pass("-o lo", "loopback")),
            Scope::Forward { .. } => {}
        }
        match self.family {
            Family::V4 => block.push(pass("-p icmp -m icmp --icmp-type 3/4", "path MTU")),
            Family::V6 => block.extend(ipv6_needs()),
        }
        block
    }

    fn verdict_rules(self, workload: &str, verdict: Verdict) -> Vec<String> {
        let prohibited = match self.family {
            Family::V4 => "icmp-admin-prohibited",
            Family::V6 => "icmp6-adm-prohibited",
        };
        let last = match verdict {
            Verdict::Log => vec!["-j RETURN".to_owned()],
            Verdict::Drop => vec!["-j DROP".to_owned()],
            Verdict::Reject => vec![
                "-p tcp -j REJECT --reject-with tcp-reset".to_owned(),
                format!("-j REJECT --reject-with {prohibited}"),
            ],
        };
        let word = match verdict {
            Verdict::Log => "log",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let prefix = text::log_prefix(word, workload);
        let log = format!(
            "-m limit --limit 10/second --limit-burst 20 \
             -j NFLOG --nflog-group {NFLOG_GROUP} --nflog-prefix \"{prefix}\""
        );
        // A rule without a target only counts.
        let count = "-m comment --comment \"not allowed\"".to_owned();
        [count, log].into_iter().chain(last).collect()
    }

    fn jumps(self, options: &Options) -> Vec<Jump> {
        let jump = |from, selector| Jump {
            from,
            selector,
            chain: options.chain.clone(),
        };
        match &options.scope {
            Scope::Namespace => vec![jump("OUTPUT", Selector::default())],
            Scope::Cgroup { path } => {
                let cgroup = Some(format!("/{}", path.trim_start_matches('/')));
                vec![jump(
                    "OUTPUT",
                    Selector {
                        cgroup,
                        ..Selector::default()
                    },
                )]
            }
            Scope::Forward { sources, interface } => self
                .sources(sources)
                .map(|source| Selector {
                    source,
                    interface: interface.clone(),
                    cgroup: None,
                })
                .map(|selector| jump("FORWARD", selector))
                .collect(),
        }
    }

    /// This family's sources; one `None` where sources are not what selects.
    fn sources(self, sources: &[IpNet]) -> impl Iterator<Item = Option<IpNet>> {
        let any = sources.is_empty().then_some(None);
        let own = sources
            .iter()
            .filter(move |each| Family::of(each) == self.family)
            .map(|each| Some(each.trunc()));
        any.into_iter().chain(own)
    }
}

/// A rule that sends a kernel chain's traffic to ours.
struct Jump {
    from: &'static str,
    selector: Selector,
    chain: String,
}

/// Whose traffic: all that is given must match.
#[derive(Default)]
struct Selector {
    source: Option<IpNet>,
    interface: Option<String>,
    cgroup: Option<String>,
}

impl Jump {
    /// The rule behind `-I` or `-D`; `quote` is that of the file or of the shell.
    fn rule(&self, quote: fn(&str) -> String) -> String {
        let mut rule = self.from.to_owned();
        if let Some(source) = &self.selector.source {
            rule += &format!(" -s {source}");
        }
        if let Some(interface) = &self.selector.interface {
            rule += &format!(" -i {interface}");
        }
        if let Some(path) = &self.selector.cgroup {
            rule += &format!(" -m cgroup --path {}", quote(path));
        }
        format!("{rule} -j {}", self.chain)
    }
}

/// As iptables-restore reads it, with backslashes before quotes and backslashes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// What IPv6 cannot do without. Neighbour discovery comes with hop limit 255 and is never routed;
/// without the multicast reports a switch may not deliver its questions.
fn ipv6_needs() -> Vec<String> {
    let mut needs = vec![pass("-p ipv6-icmp -m icmp6 --icmpv6-type 2", "path MTU")];
    for kind in [133, 135, 136] {
        let neighbour = format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m hl --hl-eq 255");
        needs.push(pass(&neighbour, "neighbour discovery"));
    }
    for kind in [131, 132, 143] {
        let report = format!("-d ff02::/16 -p ipv6-icmp -m icmp6 --icmpv6-type {kind}");
        needs.push(pass(&report, "multicast reports"));
    }
    needs
}

fn allow(element: &Element) -> String {
    let packets = match element.packets {
        Packets::Port { protocol, port } => port_match(protocol, port),
        Packets::Protocol(protocol) => format!("-p {}", protocol.0),
        Packets::Icmp(kind) => match Family::of(&element.to) {
            Family::V4 => format!("-p icmp -m icmp --icmp-type {}", kind.number),
            Family::V6 => format!("-p ipv6-icmp -m icmp6 --icmpv6-type {}", kind.number),
        },
    };
    pass(&format!("-d {} {packets}", element.to), &element.comment)
}

/// A table that was asked for, and is not one that filters.
fn other_table(table: &str) -> Option<String> {
    let ours = table == "filter" || table == DEFAULT_TABLE;
    (!ours).then(|| format!("the table {table}: iptables filters in its table filter"))
}

/// Whether `-p` would widen it.
fn is_any(packets: Packets) -> bool {
    packets == Packets::Protocol(Protocol(0))
}

fn port_match(protocol: Protocol, port: u16) -> String {
    match protocol {
        // There is no match of this name.
        Protocol::UDPLITE => format!("-p udplite -m multiport --dports {port}"),
        // iptables would look the name up in /etc/protocols, which may be missing.
        Protocol::DCCP => format!("-p 33 -m dccp --dport {port}"),
        Protocol(_) => format!("-p {protocol} -m {protocol} --dport {port}"),
    }
}

/// Back to the chain that jumped here: later rules there, not ours, decide whether it goes out.
fn pass(rule: &str, comment: &str) -> String {
    let comment = text::comment(comment);
    if comment.is_empty() {
        return format!("{rule} -j RETURN");
    }
    format!("{rule} -m comment --comment \"{comment}\" -j RETURN")
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot parse its own text fails"
)]
mod tests {
    use super::*;
    use crate::render::{DEFAULT_CHAIN, Format, Origin, examples};

    fn render(format: Format, scope: Scope, verdict: Verdict) -> Rendered {
        let options = Options {
            scope,
            ..Options::new(verdict)
        };
        format
            .backend()
            .render(&examples::mixed(Origin::Reviewed), &options)
    }

    fn forward() -> Scope {
        Scope::Forward {
            sources: vec!["203.0.113.9/32".parse().unwrap()],
            interface: Some("docker0".to_owned()),
        }
    }

    /// What iptables-restore acts on.
    fn body(made: &Rendered) -> &str {
        let (_, body) = made.text.split_once("\n\n").unwrap();
        body
    }

    #[test]
    fn forwarded_ipv4_in_full() {
        let made = render(Format::Iptables, forward(), Verdict::Reject);
        assert_eq!(made.text, FORWARD);
    }

    #[test]
    fn the_ipv6_rules_of_a_cgroup() {
        let path = r"system.slice/a\x2db.service".to_owned();
        let made = render(Format::Ip6tables, Scope::Cgroup { path }, Verdict::Drop);
        assert_eq!(body(&made), CGROUP6);
        let undo =
            r"ip6tables -w -D OUTPUT -m cgroup --path '/system.slice/a\x2db.service' -j egress";
        assert!(made.text.contains(undo), "{}", made.text);
    }

    #[test]
    fn without_a_source_of_its_family_nothing_jumps() {
        let made = render(Format::Ip6tables, forward(), Verdict::Drop);
        assert!(!made.text.contains("\n-I "), "{}", made.text);
        assert_eq!(
            made.omissions.last().unwrap(),
            "no IPv6 source was given: forwarded IPv6 traffic is not judged, all of it passes"
        );
    }

    #[test]
    fn protocol_0_is_not_widened_to_any() {
        let rules = examples::rule_set(Origin::Reviewed, &[("198.51.100.7/32", "ip-0", "")]);
        let made = Format::Iptables
            .backend()
            .render(&rules, &Options::new(Verdict::Drop));
        assert!(!made.text.contains("-A egress -d"), "{}", made.text);
        assert_eq!(
            made.omissions,
            ["198.51.100.7/32 ip-0: iptables reads protocol 0 as any protocol"]
        );
    }

    #[test]
    fn a_table_that_is_not_there_is_an_omission() {
        let table = |name: &str| {
            let options = Options {
                table: name.to_owned(),
                ..Options::new(Verdict::Drop)
            };
            let rules = examples::rule_set(Origin::Reviewed, &[]);
            Format::Iptables
                .backend()
                .render(&rules, &options)
                .omissions
        };
        assert_eq!(table("filter"), [""; 0]);
        assert_eq!(
            table("mine"),
            ["the table mine: iptables filters in its table filter"]
        );
    }

    #[test]
    fn the_jump_goes_to_the_chain_asked_for() {
        let options = Options {
            chain: "shop".to_owned(),
            ..Options::new(Verdict::Drop)
        };
        let rules = examples::rule_set(Origin::Reviewed, &[]);
        let made = Format::Iptables.backend().render(&rules, &options);
        assert!(body(&made).contains(":shop - [0:0]\n"));
        assert!(body(&made).contains("-I OUTPUT -j shop\n"));
        assert!(!body(&made).contains(&format!("-j {DEFAULT_CHAIN}\n")));
    }

    const FORWARD: &str = r##"# egress-tracer rules for workload shop_agent
# REVIEWED: approved, unexpired entries of a policy.
# ENFORCES: what no rule allows is counted, logged and refused.
#
# Judges what this host forwards from the addresses or interface below, after DNAT.
# What is sent to the host itself, or bridged, is not forwarded and not judged.
# Restart: a restarted container may get another address or interface; then these
# rules match nothing and everything passes. Give it fixed ones, or render again.
# Another workload's rules on this host need another --table (nftables) or --chain
# (iptables): the same one would replace these.
#
# Check:       iptables-restore -w --noflush --test rules.v4
# Apply:       iptables-restore -w --noflush rules.v4
# Apply again: iptables-restore -w --noflush rules.v4  # then remove the jump it doubled:
#              iptables -w -D FORWARD -s 203.0.113.9/32 -i docker0 -j egress
# Undo:        iptables -w -D FORWARD -s 203.0.113.9/32 -i docker0 -j egress
#              iptables -w -F egress
#              iptables -w -X egress
# Counters:    iptables -w -L egress -n -v -x
# Log:         tshark -i nflog:5
#
# Not in these rules:
#   198.51.100.7/32 icmp/no-such-type: IPv4 has no icmp type of this name
#
# IPv6 rules are for ip6tables (rules.v6): 2. Without that file IPv6 is not judged at all.

*filter
# Creates the chain, or empties it.
:egress - [0:0]
# Always passes.
-A egress -m conntrack --ctstate ESTABLISHED,RELATED -m comment --comment "open connections" -j RETURN
-A egress -p icmp -m icmp --icmp-type 3/4 -m comment --comment "path MTU" -j RETURN
# Allowed, one rule each.
-A egress -d 198.51.100.0/24 -p tcp -m tcp --dport 443 -m comment --comment "cdn.example.com" -j RETURN
-A egress -d 198.51.100.0/25 -p tcp -m tcp --dport 443 -m comment --comment "cdn.example.com" -j RETURN
-A egress -d 198.51.100.7/32 -p tcp -m tcp --dport 443 -m comment --comment "api.example.com (curl)" -j RETURN
-A egress -d 198.51.100.7/32 -p 47 -j RETURN
# Everything else.
-A egress -m comment --comment "not allowed"
-A egress -m limit --limit 10/second --limit-burst 20 -j NFLOG --nflog-group 5 --nflog-prefix "egress-tracer reject shop_agent "
-A egress -p tcp -j REJECT --reject-with tcp-reset
-A egress -j REJECT --reject-with icmp-admin-prohibited
-I FORWARD -s 203.0.113.9/32 -i docker0 -j egress
COMMIT
"##;

    const CGROUP6: &str = r##"*filter
# Creates the chain, or empties it.
:egress - [0:0]
# Always passes.
-A egress -m conntrack --ctstate ESTABLISHED,RELATED -m comment --comment "open connections" -j RETURN
-A egress -o lo -m comment --comment "loopback" -j RETURN
-A egress -p ipv6-icmp -m icmp6 --icmpv6-type 2 -m comment --comment "path MTU" -j RETURN
-A egress -p ipv6-icmp -m icmp6 --icmpv6-type 133 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A egress -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A egress -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A egress -d ff02::/16 -p ipv6-icmp -m icmp6 --icmpv6-type 131 -m comment --comment "multicast reports" -j RETURN
-A egress -d ff02::/16 -p ipv6-icmp -m icmp6 --icmpv6-type 132 -m comment --comment "multicast reports" -j RETURN
-A egress -d ff02::/16 -p ipv6-icmp -m icmp6 --icmpv6-type 143 -m comment --comment "multicast reports" -j RETURN
# Allowed, one rule each.
-A egress -d 2001:db8::7/128 -p udp -m udp --dport 53 -m comment --comment "?; flush ruleset; ?" -j RETURN
-A egress -d 2001:db8::7/128 -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m comment --comment "ping" -j RETURN
# Everything else.
-A egress -m comment --comment "not allowed"
-A egress -m limit --limit 10/second --limit-burst 20 -j NFLOG --nflog-group 5 --nflog-prefix "egress-tracer drop shop_agent "
-A egress -j DROP
-I OUTPUT -m cgroup --path "/system.slice/a\\x2db.service" -j egress
COMMIT
"##;
}
