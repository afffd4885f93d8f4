//! dnsmasq lines that put the addresses of allowed names into nftables sets as they are asked for.

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
        let mut lines = String::new();
        for (names, [v4, v6]) in names::sets(rules, &mut omissions).iter() {
            for name in names {
                let name = match name {
                    Name::Exact(name) => {
                        omissions.push(format!("{name}: every name below it is allowed too"));
                        name
                    }
                    Name::Below(parent) => {
                        omissions.push(format!("*.{parent}: {parent} itself is allowed too"));
                        parent
                    }
                };
                lines += &format!("nftset=/{name}/4#inet#{table}#{v4},6#inet#{table}#{v6}\n");
            }
        }
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
