//! Everything that rules say, as JSON for other programs. Leaves nothing out.

use jiff::civil::Date;
use serde_json::{Value, json};

use super::{Backend, NamedRule, Options, Origin, Rendered, Rule, RuleSet, Scope, Verdict};
use crate::{harmless, policy::model::Service};

/// The value of the `schema` key.
const SCHEMA: &str = "egress-tracer/rules/1";

/// Writes the neutral form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neutral;

impl Backend for Neutral {
    fn render(&self, rules: &RuleSet, options: &Options) -> Rendered {
        let omissions = rules.left_out.clone();
        let origin = match rules.origin {
            Origin::Candidate => "candidate",
            Origin::Reviewed => "reviewed",
        };
        let verdict = match options.verdict {
            Verdict::Log => "log",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let by_address = rules.rules.iter().map(address);
        let all: Vec<Value> = by_address.chain(rules.names.iter().map(name)).collect();
        let value = json!({
            "schema": SCHEMA,
            "workload": rules.workload,
            "origin": origin,
            "verdict": verdict,
            "scope": scope(&options.scope),
            "allow": all,
            "left_out": rules.left_out,
            "warnings": rules.warnings,
        });
        match harmless::pretty_json(&value) {
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

fn address(rule: &Rule) -> Value {
    let mut value = with_service(&rule.to.to_string(), &rule.service, &rule.comment);
    value["observed"] = json!(rule.observed);
    until(value, rule.expires)
}

fn name(rule: &NamedRule) -> Value {
    let value = with_service(&rule.name, &rule.service, &rule.comment);
    until(value, rule.expires)
}

/// With the last day on which it holds, if there is one.
fn until(mut value: Value, expires: Option<Date>) -> Value {
    if let Some(day) = expires {
        value["expires"] = json!(day.to_string());
    }
    value
}

/// `to`, `protocol`, and `port` or `type` where the service has one.
fn with_service(to: &str, service: &Service, comment: &str) -> Value {
    let mut value = json!({ "to": to, "comment": comment });
    match service {
        Service::Port { protocol, port } => {
            value["protocol"] = json!(protocol.to_string());
            value["port"] = json!(port);
        }
        Service::Protocol { protocol, kind } => {
            value["protocol"] = json!(protocol.to_string());
            if let Some(kind) = kind {
                value["type"] = json!(kind);
            }
        }
    }
    value
}

fn scope(scope: &Scope) -> Value {
    match scope {
        Scope::Namespace => json!({ "hook": "output" }),
        Scope::Cgroup { path } => json!({ "hook": "output", "cgroup": path }),
        Scope::Forward { sources, interface } => {
            json!({ "hook": "forward", "sources": sources, "interface": interface })
        }
    }
}
