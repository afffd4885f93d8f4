//! Input for `ipset restore`: what `iptables-ipset` and `ip6tables-ipset` look up.

use super::{
    Backend, Options, Rendered, RuleSet,
    elements::{self, Element, Elements, Family, Packets},
    header, text,
};
use crate::record::Protocol;

/// Fills the sets from the file of this format.
pub(super) const RESTORE: &str = "ipset restore -file rules.ipset";
/// Most elements that a set takes: the kernel's own limit is far too low for long lists.
const MAX_ELEMENTS: u32 = 1_048_576;

/// Writes both address families' sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ipset;

impl Backend for Ipset {
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = options.check() {
            return header::refusal(rules, options, &why);
        }
        let elements = Elements::without_names(rules);
        let others = elements.list.iter().filter(|each| !holds(each)).count();
        let how = [
            "Holds the sets that rules-ipset.v4 and rules-ipset.v6 (formats iptables-ipset and",
            "ip6tables-ipset) look up: fill the sets first. Filling them again replaces each in",
            "one step.",
            "",
            "Apply:        ipset restore -file rules.ipset",
            "Look:         ipset list",
        ];
        let mut text = header::brief(
            rules,
            "Sets alone judge nothing: the rules that look into them say what happens.",
            &how,
            &elements.omissions,
        );
        text += &format!("#\n# In the rules, since a set cannot hold them: {others}.\n\n");
        for family in [Family::V4, Family::V6] {
            text += &set(&options.chain, family, &elements);
        }
        Rendered {
            text,
            omissions: elements.omissions,
        }
    }
}

/// Whether a set of networks and ports can hold it.
pub(super) fn holds(element: &Element) -> bool {
    match element.packets {
        Packets::Port { protocol, port: _ } => [
            Protocol::TCP,
            Protocol::UDP,
            Protocol::SCTP,
            Protocol::UDPLITE,
        ]
        .contains(&protocol),
        Packets::Protocol(_) | Packets::Icmp(_) => false,
    }
}

/// The set of one chain and family. A chain's name has 28 bytes at most, a set's 31.
pub(super) fn set_name(chain: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{chain}4"),
        Family::V6 => format!("{chain}6"),
    }
}

/// Takes a set away, once no rule looks into it.
pub(super) fn destroy(chain: &str, family: Family) -> String {
    format!("ipset destroy {}", set_name(chain, family))
}

/// The set is filled beside the one in use, and then takes its place.
fn set(chain: &str, family: Family, elements: &Elements) -> String {
    let name = set_name(chain, family);
    let fresh = format!("{name}.n");
    let inet = match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    let kind =
        format!("hash:net,port family {inet} maxelem {MAX_ELEMENTS} counters comment -exist");
    let mut out = format!("create {name} {kind}\ncreate {fresh} {kind}\nflush {fresh}\n");
    for element in &elements.list {
        let Packets::Port { protocol, port } = element.packets else {
            continue;
        };
        if Family::of(&element.to) != family || !holds(element) {
            continue;
        }
        let comment = text::comment(&element.comment);
        let comment = match comment.as_str() {
            "" => comment,
            text => format!(" comment \"{text}\""),
        };
        // A set cannot hold all addresses as one network.
        for part in elements::below_all(element.to) {
            out += &format!("add {fresh} {part},{protocol}:{port}{comment}\n");
        }
    }
    out + &format!("swap {fresh} {name}\ndestroy {fresh}\n")
}
