//! One candidate as a page of text, 80 columns wide and with nothing in it that steers a terminal.

use crate::{
    analysis::{
        risk::{Finding, own::Exception},
        summary::Summary,
    },
    output::terminal,
    policy::model::Entry,
};

const WIDTH: usize = 79;
/// As wide as the labels.
const INDENT: usize = 12;
/// How many addresses and processes are spelled out.
const SHOWN: usize = 8;
/// How many command lines and containers have a line of their own.
const EXAMPLES: usize = 3;

/// The page. `beside` says what stands already for the same destination, `tags`
/// which published cloud ranges it is in.
pub(super) fn page(
    head: &str,
    entry: &Entry,
    seen: Option<&Summary>,
    found: &[Finding],
    excepted: &[(Finding, &Exception)],
    beside: &[String],
    tags: &[String],
) -> String {
    let mut text = format!("\n{}\n", line("", head).trim_start());
    let ports: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
    text += &line("services", &ports.join(" "));
    if !entry.translated.is_empty() {
        let places: Vec<String> = entry.translated.iter().map(ToString::to_string).collect();
        text += &line("translated", &some(&places));
    }
    if let Some(tools) = &entry.tools {
        text += &line("tools", &tools.join(" "));
    }
    if let Some(processes) = &entry.processes {
        text += &line("only for", &some(processes));
    }
    if !tags.is_empty() {
        text += &line("network", &some(tags));
    }
    for each in beside {
        text += &line("beside it", each);
    }
    match seen {
        Some(seen) => text += &figures(entry, seen),
        None => {
            text += &line(
                "seen",
                "never, as far as the evidence beside the policy tells",
            );
        }
    }
    for Finding {
        id, severity, why, ..
    } in found
    {
        text += &line(&severity.to_string(), &format!("{id}: {why}"));
    }
    for (Finding { id, .. }, exception) in excepted {
        let Exception {
            reason, expires, ..
        } = exception;
        text += &line("excepted", &format!("{id} until {expires}: {reason}"));
    }
    text
}

fn figures(entry: &Entry, seen: &Summary) -> String {
    let mut text = String::new();
    let addresses: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
    if addresses != [entry.to.to_string()] {
        text += &line("addresses", &some(&addresses));
    }
    let roles: Vec<String> = seen.roles.iter().cloned().collect();
    if !roles.is_empty() {
        text += &line("what it is", &some(&roles));
    }
    let processes: Vec<String> = seen.processes.iter().cloned().collect();
    if !processes.is_empty() {
        text += &line("by", &some(&processes));
    }
    for command in seen.commands.iter().take(EXAMPLES) {
        text += &line("command", command);
    }
    for container in seen.containers.iter().take(EXAMPLES) {
        text += &line("container", container);
    }
    let (count, runs, recorded) = (seen.connections, seen.runs, seen.runs_recorded);
    let times = format!("{count} time(s), in {runs} of {recorded} run(s)");
    text += &line("seen", &times);
    if let (Some(first), Some(last)) = (seen.first_seen, seen.last_seen) {
        text += &line("when", &format!("{first:.0} to {last:.0}"));
    }
    if seen.bytes_sent > 0 || seen.bytes_received > 0 {
        let (sent, received) = (seen.bytes_sent, seen.bytes_received);
        text += &line("bytes", &format!("{sent} sent, {received} received"));
    }
    text
}

fn some(texts: &[String]) -> String {
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match texts.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A label and a text, over as many lines as it needs.
fn line(label: &str, text: &str) -> String {
    let width = WIDTH - INDENT;
    let mut lines = vec![String::new()];
    for word in terminal::escape(text).split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |last| last.chars().count());
            let space = usize::from(used > 0);
            if used + space + rest.len() > width && used > 0 {
                lines.push(String::new());
                continue;
            }
            let taken: String = rest.drain(..rest.len().min(width)).collect();
            if let Some(last) = lines.last_mut() {
                last.push_str(if space > 0 { " " } else { "" });
                last.push_str(&taken);
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels
        .zip(&lines)
        .map(|(label, line)| format!("{label:<INDENT$}{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let long = format!("{} a b {}", "x".repeat(300), "word ".repeat(60));
        let text = line("label", &long);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        let letters = |text: &str| text.chars().filter(|each| *each == 'x').count();
        assert_eq!(letters(&text), 300);
        assert!(!line("label", "a\u{1b}[2J\u{202e}").contains('\u{1b}'));
    }
}
