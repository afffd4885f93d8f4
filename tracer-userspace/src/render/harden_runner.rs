//! The step that configures StepSecurity's Harden-Runner in a GitHub workflow.

use std::collections::BTreeSet;

use super::{Backend, BadOption, Options, Rendered, RuleSet, Verdict, header, names, text};
use crate::{policy::model::Service, record::Protocol};

const TOOL: &str = "Harden-Runner";

/// Writes `egress-policy` and `allowed-endpoints`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HardenRunner;

impl Backend for HardenRunner {
    fn check(&self, options: &Options) -> Result<(), BadOption> {
        options.check_no_scope(TOOL)?;
        match options.verdict {
            Verdict::Log | Verdict::Drop => Ok(()),
            Verdict::Reject => Err(BadOption::NoReject(TOOL)),
        }
    }

    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        if let Err(why) = self.check(options) {
            return header::refusal(rules, options, &why);
        }
        let mut omissions = names::address_omissions(rules, TOOL);
        let endpoints = endpoints(rules, &mut omissions);
        let (policy, effect) = match options.verdict {
            Verdict::Log => ("audit", "DRY RUN: everything passes and is reported."),
            Verdict::Drop | Verdict::Reject => {
                ("block", "ENFORCES: what is not listed is blocked.")
            }
        };
        let how = ["The first step of a job. Harden-Runner resolves the names itself."];
        let mut text = header::brief(rules, effect, &how, &omissions);
        // Endpoints are letters, digits, dots, dashes, stars and colons: nothing to escape.
        text += &format!(
            "\n- uses: step-security/harden-runner@v2\n  with:\n    egress-policy: {policy}\n"
        );
        if endpoints.is_empty() {
            text += "    allowed-endpoints: \"\"\n";
        } else {
            text += "    allowed-endpoints: >\n";
            for endpoint in &endpoints {
                text += &format!("      {endpoint}\n");
            }
        }
        Rendered { text, omissions }
    }
}

fn endpoints(rules: &RuleSet, omissions: &mut Vec<String>) -> BTreeSet<String> {
    let mut endpoints = BTreeSet::new();
    for (service, names) in names::by_service(rules, omissions) {
        for name in names {
            let name = name.starred();
            match service {
                Service::Port { protocol, port } if protocol == Protocol::TCP => {
                    endpoints.insert(format!("{name}:{port}"));
                }
                Service::Port { .. } | Service::Protocol { .. } => {
                    let line = format!("{name} {service}: {TOOL} lists TCP endpoints only");
                    omissions.push(text::line(&line));
                }
            }
        }
    }
    endpoints
}
