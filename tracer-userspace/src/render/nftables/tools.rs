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
