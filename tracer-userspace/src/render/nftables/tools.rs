//! What one tool alone may: a chain for each, which only sockets of that tool's own cgroup come to.

use super::{Options, Part, RuleSet, Scope, cgroup_match, names, text};
use crate::workload_name::tool_cgroup;

/// The tools' chains, numbered from 1: their names may be anything.
pub(super) struct ToolParts {
    chain: String,
    parts: Vec<ToolPart>,
}

struct ToolPart {
    number: usize,
    tool: String,
    /// Below the cgroup2 mount.
    cgroup: String,
    part: Part,
}

impl ToolParts {
    /// What the rules have for tools alone; without the agent's cgroup that is left out.
    pub(super) fn of(rules: &RuleSet, options: &Options, omissions: &mut Vec<String>) -> Self {
        let mut parts = Vec::new();
        for (number, each) in (1..).zip(&rules.tools) {
            let tool = text::line(&each.tool);
            let Scope::Cgroup { path } = &options.scope else {
                omissions.push(format!("tool {tool}: only rules by cgroup can tell it"));
                continue;
            };
            let (part, left_out) = Part::of(&each.set, options, &format!("tool{number}_"));
            omissions.extend(left_out.iter().map(|why| format!("tool {tool}: {why}")));
            parts.push(ToolPart {
                number,
                tool,
                cgroup: format!("{}/{}", path.trim_end_matches('/'), tool_cgroup(&each.tool)),
                part,
            });
        }
        Self {
            chain: options.chain.clone(),
            parts,
        }
    }

    /// How the cgroups are made that must be there when the rules are loaded.
    pub(super) fn cgroups(&self) -> Vec<String> {
        let command = |each: &ToolPart| {
            let path = format!("/sys/fs/cgroup/{}", each.cgroup.trim_start_matches('/'));
            format!("mkdir -p {}", text::shell_word(&path))
        };
        self.parts.iter().map(command).collect()
    }

    pub(super) fn declarations(&self) -> String {
        let parts = self.parts.iter();
        parts.map(|each| each.part.declarations()).collect()
    }

    /// The sets of names that they look into.
    pub(super) fn names(&self) -> impl Iterator<Item = names::Sets> {
        self.parts.iter().map(|each| each.part.names.clone())
    }

    pub(super) fn chains(&self) -> String {
        let chain = |each: &ToolPart| {
            let (name, tool, lookups) = (self.chain_of(each), &each.tool, each.part.lookups());
            format!("\n\tchain {name} {{\n\t\t# {tool}\n{lookups}\t}}\n")
        };
        self.parts.iter().map(chain).collect()
    }

    /// The ways into the chains, for packets that nobody else's rules let pass.
    pub(super) fn jumps(&self) -> String {
        if self.parts.is_empty() {
            return String::new();
        }
        let jump = |each: &ToolPart| {
            let (selector, chain) = (cgroup_match(&each.cgroup), self.chain_of(each));
            format!("\t\t{selector}jump {chain}\n")
        };
        let jumps: String = self.parts.iter().map(jump).collect();
        format!("\n\t\t# Allowed to one tool alone: to what runs in its cgroup.\n{jumps}")
    }

    fn chain_of(&self, each: &ToolPart) -> String {
        format!("{}_tool{}", self.chain, each.number)
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot parse its own text fails"
)]
mod tests {
    use crate::render::{
        Format, NamedRule, Options, Origin, RuleSet, Scope, ToolRules, Verdict, examples,
    };

    fn rules() -> RuleSet {
        let mut set = examples::rule_set(Origin::Reviewed, &[("198.51.100.7/32", "443/tcp", "")]);
        set.names.push(NamedRule {
            name: "api.example".to_owned(),
            service: "443/tcp".parse().unwrap(),
            comment: String::new(),
            expires: None,
        });
        let tools = vec![ToolRules {
            tool: "a\"\n}; flush ruleset".to_owned(),
            set: set.clone(),
        }];
        RuleSet { tools, ..set }
    }

    fn render(scope: Scope) -> (String, Vec<String>) {
        let options = Options {
            scope,
            name_sets: true,
            ..Options::new(Verdict::Drop)
        };
        let made = Format::Nftables.backend().render(&rules(), &options);
        (made.text, made.omissions)
    }

    #[test]
    fn a_tool_has_a_chain_that_only_its_cgroup_comes_to() {
        let path = "/agent.slice".to_owned();
        let (text, omissions) = render(Scope::Cgroup { path });
        assert!(omissions.is_empty(), "{omissions:?}");
        let cgroup = "agent.slice/tool-a%22%0A%7D%3B%20flush%20ruleset";
        for line in [
            format!("# First:       mkdir -p '/sys/fs/cgroup/{cgroup}'"),
            format!("\t\tsocket cgroupv2 level 2 \"{cgroup}\" jump egress_tool1"),
            "\tchain egress_tool1 {".to_owned(),
            "\t\t# a??}; flush ruleset".to_owned(),
            "\tset tool1_ipv4_ports {".to_owned(),
            "\t\tip daddr . meta l4proto . th dport @tool1_ipv4_ports accept".to_owned(),
        ] {
            assert!(
                text.lines().any(|each| each == line),
                "{line}\nis not in\n{text}"
            );
        }
        // The set of a name is filled for all who may use it, and declared once.
        assert_eq!(
            text.matches("set names4_tcp_443_api_example").count(),
            1,
            "{text}"
        );
        assert_eq!(
            text.matches("@names4_tcp_443_api_example").count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn without_a_cgroup_tools_are_left_out() {
        let (text, omissions) = render(Scope::Namespace);
        assert_eq!(
            omissions,
            ["tool a??}; flush ruleset: only rules by cgroup can tell it"]
        );
        assert!(!text.contains("tool1"), "{text}");
    }
}
