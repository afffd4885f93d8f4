//! dnsmasq lines that put the addresses of allowed names into nftables sets as they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Backend, BadOption, Options, Rendered, RuleSet, header, names, names::Name};

/// Writes `nftset=` lines. The sets are those of `nftables --name-sets`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dnsmasq;

impl Backend for Dnsmasq {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check()
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let mut omissions =
            names::address_omissions(rules, "dnsmasq (the nftables rules hold addresses)");
        let table = &options.table;
        let mut wider = BTreeSet::new();
        let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, _, [v4, v6]) in names::sets(rules, &mut omissions).iter() {
            let name = match name {
                Name::Exact(name) => {
                    wider.insert(format!("{name}: every name below it is allowed too"));
                    name
                }
                Name::Below(parent) => {
                    wider.insert(format!("*.{parent}: {parent} itself is allowed too"));
                    parent
                }
            };
            let of_name = sets.entry(name.clone()).or_default();
            of_name.insert(format!("4#inet#{table}#{v4},6#inet#{table}#{v6}"));
        }
        omissions.extend(wider);
        let lines: String = sets.keys().map(|name| line(name, &sets)).collect();
        let how = [
            "For dnsmasq 2.87 or later, as the only resolver that the workload can reach. Load",
            "the rules of nftables --name-sets first; after loading them again, the sets are empty",
            "until the names are asked for again: restart dnsmasq, and what cached its answers.",
            "",
            "Check:        dnsmasq --test --conf-file=dnsmasq.conf",
            "Apply:        cp dnsmasq.conf /etc/dnsmasq.d/egress-tracer.conf, then restart dnsmasq",
        ];
        let effect = "Fills sets: the nftables rules say what happens to everything else.";
        Rendered {
            text: header::brief(rules, effect, &how, &omissions) + "\n" + &lines,
            omissions,
        }
    }
}

/// dnsmasq looks at the line of the longest match alone, so each has the sets of the names above it
/// as well.
fn line(name: &str, sets: &BTreeMap<String, BTreeSet<String>>) -> String {
    let is_in = |parent: &String| {
        let above = name.strip_suffix(parent.as_str());
        above.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    };
    let all: BTreeSet<&str> = sets
        .iter()
        .filter(|(parent, _)| is_in(parent))
        .flat_map(|(_, sets)| sets.iter().map(String::as_str))
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    format!("nftset=/{name}/{}\n", all.join(","))
}
