//! The network settings of Anthropic's sandbox runtime, which routes by name through a proxy.

use serde_json::json;

use super::{
    Backend, BadOption, NamedRule, Options, Rendered, RuleSet, domains, header,
    names::{self, Name},
    text,
};
use crate::harmless;

const TOOL: &str = "the sandbox runtime";

/// Writes a settings file's `network` part. JSON has no comments, so nothing else is said in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SandboxRuntime;

impl Backend for SandboxRuntime {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check_no_scope(TOOL)?;
        options.check_enforces(TOOL)
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            // A comment would not be JSON.
            return Rendered {
                text: String::new(),
                ..header::refusal(rules, options, &why)
            };
        }
        let mut omissions = names::address_omissions(rules, TOOL);
        let rules = without_refused(rules, &mut omissions);
        let names = domains::any_service(&rules, TOOL, &mut omissions);
        let settings = json!({
            "network": {
                "allowedDomains": names,
                "deniedDomains": [],
                "allowUnixSockets": [],
                "allowLocalBinding": false,
            }
        });
        match harmless::pretty_json(&settings) {
            Ok(text) => Rendered {
                text: text + "\n",
                omissions,
            },
            Err(error) => Rendered {
                text: String::new(),
                omissions: vec![error.to_string()],
            },
        }
    }
}

/// One name that it refuses, and it refuses the whole file.
fn without_refused(rules: &RuleSet, omissions: &mut Vec<String>) -> RuleSet {
    let (refused, names) = rules.names.iter().cloned().partition(is_refused);
    let refused: Vec<NamedRule> = refused;
    omissions.extend(refused.iter().map(|rule| {
        let NamedRule { name, service, .. } = rule;
        text::line(&format!(
            "{name} {service}: {TOOL} takes no name of one label"
        ))
    }));
    RuleSet {
        names,
        ..rules.clone()
    }
}

/// Names of one label, and every name below one, as its `isValidDomainPattern` has it. What is no
/// name is not for it to judge.
fn is_refused(rule: &NamedRule) -> bool {
    match Name::parse(&rule.name) {
        Some(Name::Exact(name)) => name != "localhost" && !name.contains('.'),
        Some(Name::Below(parent)) => !parent.contains('.'),
        None => false,
    }
}
