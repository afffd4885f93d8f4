//! `HandOver`: the rules that hand packets to the queue, loaded and taken away again.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::names::{
    hold::{self, Match},
    hold_iptables,
};

/// Both of iptables' tools, and which address family each is for.
const IPTABLES: [(&str, &str, bool); 2] = [
    ("iptables", "iptables-restore", true),
    ("ip6tables", "ip6tables-restore", false),
];

/// Loaded rules.
#[derive(Debug)]
pub(super) struct HandOver {
    table: String,
    by_iptables: bool,
}

impl HandOver {
    /// By nftables where its `queue` is there, else by iptables. What an earlier companion left is
    /// replaced.
    ///
    /// # Errors
    /// Neither of them can.
    pub(super) fn load(table: &str, queue: u16, matches: &[Match]) -> anyhow::Result<Self> {
        let mut loaded = Self {
            table: table.to_owned(),
            by_iptables: false,
        };
        let Err(no_queue) = nft(&["-f", "-"], &hold::table(table, Some(queue), matches)) else {
            return Ok(loaded);
        };
        loaded.by_iptables = true;
        nft(&["-f", "-"], &hold::table(table, None, matches))?;
        for (tool, restore, is_v4) in IPTABLES {
            remove_jumps(tool, table);
            let text = hold_iptables::chains(table, queue, matches, is_v4);
            tool_with(restore, &["-w", "--noflush"], &text)
                .with_context(|| format!("{no_queue:#}; and by {tool}"))?;
            for (chain, ours) in hold_iptables::jumps(table) {
                tool_with(
                    tool,
                    &["-w", "-t", "security", "-I", chain, "-j", &ours],
                    "",
                )?;
            }
        }
        Ok(loaded)
    }

    /// # Errors
    /// A tool refuses.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        if self.by_iptables {
            for (tool, ..) in IPTABLES {
                remove_jumps(tool, &self.table);
                for (_, ours) in hold_iptables::jumps(&self.table) {
                    tool_with(tool, &["-w", "-t", "security", "-F", &ours], "")?;
                    tool_with(tool, &["-w", "-t", "security", "-X", &ours], "")?;
                }
            }
        }
        let name = hold::table_name(&self.table);
        nft(&["delete", "table", "inet", &name], "").map(drop)
    }
}

/// Until there are none: whoever was killed left its own.
fn remove_jumps(tool: &str, table: &str) {
    for (chain, ours) in hold_iptables::jumps(table) {
        let arguments = ["-w", "-t", "security", "-D", chain, "-j", &ours];
        while tool_with(tool, &arguments, "").is_ok() {}
    }
}

/// Runs `nft`, and returns what it prints.
pub(super) fn nft(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    tool_with("nft", arguments, input)
}

fn tool_with(tool: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {tool}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{tool}: {}", said.lines().next().unwrap_or("failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
