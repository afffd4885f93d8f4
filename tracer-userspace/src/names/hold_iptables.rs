//! The same hand-over for kernels whose nftables has no `queue` (`CONFIG_NFT_QUEUE`): by iptables'
//! NFQUEUE, in the table `security`, which comes after `filter` and is hardly ever anybody's.

use crate::names::hold::{Interface, Match, Role, is_v4, network_text};

/// Longer names of chains are refused.
const MAX_CHAIN: usize = 28;

/// The chains in which hooks are entered, and those of ours that they lead to.
pub(super) fn jumps(table: &str) -> [(&'static str, String); 3] {
    [("INPUT", "i"), ("FORWARD", "f"), ("OUTPUT", "o")].map(|(chain, letter)| {
        let mut ours = format!("{letter}_{table}");
        ours.truncate(MAX_CHAIN);
        (chain, ours)
    })
}

/// Input of `iptables-restore --noflush`, or of `ip6tables-restore`: our chains anew. The jumps to
/// them are added apart.
pub(super) fn chains(table: &str, queue: u16, matches: &[Match], wants_v4: bool) -> String {
    let jumps = jumps(table);
    let mut out = "*security\n".to_owned();
    for (_, ours) in &jumps {
        out += &format!(":{ours} - [0:0]\n");
    }
    for (hook, ours) in &jumps {
        let here = matches
            .iter()
            .filter(|each| each.hook == hook.to_ascii_lowercase());
        for each in here.filter(|each| is_v4(&each.resolver) == wants_v4) {
            let line = line(each);
            out += &format!("-A {ours} {line} -j NFQUEUE --queue-num {queue} --queue-bypass\n");
        }
    }
    out + "COMMIT\n"
}

fn line(each: &Match) -> String {
    let interface = |word: &str, by: &Option<Interface>| match by {
        Some(Interface { name, is: true }) => format!("{word} {name} "),
        Some(Interface { name, is: false }) => format!("! {word} {name} "),
        None => String::new(),
    };
    let (resolver, port, client, state) = match each.role {
        Role::Question => ("-d", "--dport", "-s", ""),
        Role::Answer => ("-s", "--sport", "-d", " -m conntrack --ctdir REPLY"),
    };
    let client = each.client.map_or_else(String::new, |network| {
        format!("{client} {} ", network_text(&network))
    });
    format!(
        "{}{}{client}{resolver} {} -p {} {port} 53{state}",
        interface("-i", &each.comes_by),
        interface("-o", &each.goes_by),
        network_text(&each.resolver),
        each.protocol,
    )
}
