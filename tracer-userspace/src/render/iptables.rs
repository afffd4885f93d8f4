//! Input for `iptables-restore` and `ip6tables-restore`: a chain of our own, and a jump to it.

use ipnet::IpNet;

use super::{
    Backend, NFLOG_GROUP, Options, Rendered, RuleSet, Scope, Verdict,
    elements::{Element, Elements, Family, Packets},
    header::{self, Commands},
    text,
};
use crate::record::Protocol;

/// Writes one address family's rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iptables {
    family: Family,
}

impl Iptables {
    pub(super) const V4: Self = Self { family: Family::V4 };
    pub(super) const V6: Self = Self { family: Family::V6 };

    fn tool(self) -> &'static str {
        match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn file(self) -> &'static str {
        match self.family {
            Family::V4 => "rules.v4",
            Family::V6 => "rules.v6",
        }
    }

    fn other(self) -> Self {
        match self.family {
            Family::V4 => Self::V6,
            Family::V6 => Self::V4,
        }
    }
}

impl Backend for Iptables {
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = options.check() {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::of(&rules.rules);
        let mut omissions = elements.omissions.clone();
        omissions.extend(self.inexpressible(&elements));
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
        let unjump = jumps
            .iter()
            .map(|jump| format!("{tool} -w -D {}", jump.rule(text::shell_word)));
        let again = format!("{restore}  # then remove the jump it doubled:");
        let remove = [
            format!("{tool} -w -F {chain}"),
            format!("{tool} -w -X {chain}"),
        ];
        Commands {
            check: vec![format!("{tool}-restore -w --noflush --test {file}")],
            apply: vec![restore],
            again: std::iter::once(again).chain(unjump.clone()).collect(),
            undo: unjump.chain(remove).collect(),
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
        let mut append = |rule: &str| out += &format!("-A {chain} {rule}\n");
        for rule in self.fixed_block(&options.scope) {
            append(&rule);
        }
        for element in &elements.list {
            if Family::of(&element.to) == self.family && !is_any(element.packets) {
                append(&allow(element));
            }
        }
        for rule in self.verdict_rules(&rules.workload, options.verdict) {
            append(&rule);
        }
        for jump in jumps {
            out += &format!("-I {}\n", jump.rule(quoted));
        }
        out + "COMMIT\n"
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

/// Whether `-p` would widen it.
fn is_any(packets: Packets) -> bool {
    packets == Packets::Protocol(Protocol(0))
}

fn port_match(protocol: Protocol, port: u16) -> String {
    // There is no match named udplite.
    if protocol == Protocol::UDPLITE {
        return format!("-p udplite -m multiport --dports {port}");
    }
    // By number, as not every name is one that iptables knows by itself.
    format!("-p {} -m {protocol} --dport {port}", protocol.0)
}

/// Back to the chain that jumped here: later rules there, not ours, decide whether it goes out.
fn pass(rule: &str, comment: &str) -> String {
    let comment = text::comment(comment);
    if comment.is_empty() {
        return format!("{rule} -j RETURN");
    }
    format!("{rule} -m comment --comment \"{comment}\" -j RETURN")
}
