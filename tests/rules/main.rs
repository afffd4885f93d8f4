//! Rendered rules against the real tools and, in network namespaces of our own, real packets.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its scene fails"
)]

mod cgroup;
mod differential;
mod expiry;
mod hostile;
mod kubernetes;
mod load;
mod netns;
mod read_back;
mod settings;
mod tools;
mod traffic;

use tracer_userspace::render::{Format, Options, Origin, Rendered, Rule, RuleSet, Scope, Verdict};

/// Rules for `(destination, service)` pairs.
pub(crate) fn rules(pairs: &[(&str, &str)]) -> RuleSet {
    let mut rules: Vec<Rule> = pairs
        .iter()
        .map(|(to, service)| {
            let comment = format!("{service} for a test");
            Rule::new(to.parse().unwrap(), service.parse().unwrap(), comment)
        })
        .collect();
    rules.sort();
    RuleSet::new("shop_agent", Origin::Candidate, rules)
}

pub(crate) fn render(format: Format, rules: &RuleSet, verdict: Verdict, scope: Scope) -> Rendered {
    let options = Options {
        scope,
        ..Options::new(verdict)
    };
    options.check().unwrap();
    format.backend().render(rules, &options)
}
