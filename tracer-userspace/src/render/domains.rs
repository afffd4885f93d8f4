//! Names alone, one a line, as proxies take them.

use std::collections::BTreeSet;

use super::{Backend, BadOption, Options, Rendered, RuleSet, header, names};

/// Writes a list of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domains;

impl Backend for Domains {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check_no_scope("a list of names")
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let mut omissions = names::address_omissions(rules, "a list of names");
        let names = any_service(rules, "a list of names", &mut omissions);
        let how = [
            "One name a line; *.NAME is every name below NAME. Lines that begin with # are comments.",
        ];
        let effect = "A list: what reads it decides what happens to everything else.";
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        Rendered {
            text: header::brief(rules, effect, &how, &omissions) + "\n" + &lines,
            omissions,
        }
    }
}

/// The names, where a port cannot be said: each service that is widened is an omission.
pub(super) fn any_service(
    rules: &RuleSet,
    tool: &str,
    omissions: &mut Vec<String>,
) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (service, names) in names::by_service(rules, omissions) {
        for name in names {
            let name = name.starred();
            omissions.push(format!(
                "{name} {service}: {tool} has no ports, so all of them are allowed"
            ));
            all.insert(name);
        }
    }
    all
}
