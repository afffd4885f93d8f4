//! The network settings of Anthropic's sandbox runtime, which routes by name through a proxy.

use serde_json::json;

use super::{Backend, BadOption, Options, Rendered, RuleSet, domains, header, names};
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
        let names = domains::any_service(rules, TOOL, &mut omissions);
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
