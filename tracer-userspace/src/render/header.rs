//! The comment at the top of every output: what the rules are, and how to handle them.

use super::{
    BadOption, NFLOG_GROUP, Options, Origin, Rendered, RuleSet, Scope, Verdict,
    elements::{Element, Family, Packets},
    text,
};

/// The shell commands that a backend's output is handled with, without the way into the namespace.
pub(super) struct Commands {
    /// Before anything else; mostly nothing.
    pub(super) first: Vec<String>,
    pub(super) check: Vec<String>,
    pub(super) apply: Vec<String>,
    pub(super) again: Vec<String>,
    pub(super) undo: Vec<String>,
    pub(super) look: Vec<String>,
}

/// The header, each line a comment.
pub(super) fn text(
    rules: &RuleSet,
    options: &Options,
    commands: &Commands,
    omissions: &[String],
) -> String {
    let mut lines = status(rules, options.verdict);
    lines.push(String::new());
    lines.extend(scope(&options.scope).map(str::to_owned));
    lines.push(String::new());
    lines.extend(handling(&options.scope, commands));
    lines.extend(list("Warning", &rules.warnings));
    lines.extend(list("Not in these rules", omissions));
    lines.iter().map(|line| comment_line(line)).collect()
}

/// The header of what is not loaded into a kernel. `effect` and `how` are our own words.
pub(super) fn brief(rules: &RuleSet, effect: &str, how: &[&str], omissions: &[String]) -> String {
    let mut lines = vec![title(rules), reviewed(rules.origin), effect.to_owned()];
    lines.push(String::new());
    lines.extend(how.iter().map(|&line| line.to_owned()));
    lines.extend(list("Warning", &rules.warnings));
    lines.extend(list("Not in these rules, or wider", omissions));
    lines.iter().map(|line| comment_line(line)).collect()
}

/// What each element is for, where the language itself has no place for it.
pub(super) fn reasons<'e>(elements: impl IntoIterator<Item = &'e Element>) -> String {
    let line = |element: &Element| {
        let what = match element.packets {
            Packets::Port { protocol, port } => format!("{port}/{protocol}"),
            Packets::Protocol(protocol) => protocol.to_string(),
            Packets::Icmp(kind) => format!("icmp {}", kind.name),
        };
        let comment = text::comment(&element.comment);
        comment_line(&format!("  {} {what}: {comment}", element.to))
    };
    let lines: String = elements
        .into_iter()
        .filter(|element| !element.comment.is_empty())
        .map(line)
        .collect();
    if lines.is_empty() {
        return lines;
    }
    format!("#\n# Allowed because of:\n{lines}")
}

/// The output for options that cannot be rendered: no rules, so that nothing is matched by mistake.
pub(super) fn refusal(rules: &RuleSet, options: &Options, why: &BadOption) -> Rendered {
    let why = text::line(&format!("nothing was rendered: {why}"));
    let mut lines = status(rules, options.verdict);
    lines.extend(list("Not in these rules", std::slice::from_ref(&why)));
    Rendered {
        text: lines.iter().map(|line| comment_line(line)).collect(),
        omissions: vec![why],
    }
}

/// The family whose traffic a source list does not select at all.
pub(super) fn unselected(scope: &Scope) -> Vec<Family> {
    match scope {
        Scope::Namespace | Scope::Cgroup { .. } => Vec::new(),
        Scope::Forward {
            sources,
            interface: _,
        } => [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| {
                !sources.is_empty() && !sources.iter().any(|each| Family::of(each) == *family)
            })
            .collect(),
    }
}

/// What [`unselected`] means for the reader.
pub(super) fn unselected_omission(family: Family) -> String {
    let name = family.name();
    format!("no {name} source was given: forwarded {name} traffic is not judged, all of it passes")
}

/// `line` is our own words, with what comes from elsewhere already inert.
fn comment_line(line: &str) -> String {
    if line.is_empty() {
        "#\n".to_owned()
    } else {
        format!("# {line}\n")
    }
}

fn status(rules: &RuleSet, verdict: Verdict) -> Vec<String> {
    let effect = match verdict {
        Verdict::Log => {
            "DRY RUN: what no rule allows is counted and logged, and passes. To enforce: --verdict \
             drop or reject"
        }
        Verdict::Drop => "ENFORCES: what no rule allows is counted, logged and dropped",
        Verdict::Reject => "ENFORCES: what no rule allows is counted, logged and refused",
    };
    vec![title(rules), reviewed(rules.origin), format!("{effect}.")]
}

fn title(rules: &RuleSet) -> String {
    format!(
        "egress-tracer rules for workload {}",
        text::line(&rules.workload)
    )
}

pub(super) fn reviewed(origin: Origin) -> String {
    match origin {
        Origin::Candidate => "CANDIDATE, made from observation; nobody has reviewed it.",
        Origin::Reviewed => "REVIEWED: approved, unexpired entries of a policy.",
    }
    .to_owned()
}

/// Where several workloads' rules meet.
const SEVERAL: [&str; 2] = [
    "Another workload's rules on this host need another --table (nftables) or --chain",
    "(iptables): the same one would replace these.",
];

fn scope(scope: &Scope) -> impl Iterator<Item = &'static str> {
    let lines: &[&str] = match scope {
        Scope::Namespace => &[
            "Judges everything that leaves the network namespace they are loaded in: enter the",
            "container's, as below. In the host's own they judge the whole host.",
            "Docker's DNS, 127.0.0.11, goes out through lo, which passes. dockerd asks the servers",
            "behind it from inside this namespace: those need rules like any other destination.",
            "Restart: a restarted container has a new namespace, without these rules: everything",
            "passes until they are applied again.",
        ],
        Scope::Forward { .. } => &[
            "Judges what this host forwards from the addresses or interface below, after DNAT.",
            "What is sent to the host itself, or bridged, is not forwarded and not judged.",
            "Restart: a restarted container may get another address or interface; then these",
            "rules match nothing and everything passes. Give it fixed ones, or render again.",
            SEVERAL[0],
            SEVERAL[1],
        ],
        Scope::Cgroup { .. } => &[
            "Judges what sockets made in one cgroup v2 send, in this network namespace only: not",
            "a container that has a namespace of its own.",
            "The cgroup must exist when the rules are loaded: its path becomes an id then.",
            "Restart: a restarted container or unit has a new cgroup with another id; these rules",
            "match nothing and everything passes until they are applied again.",
            SEVERAL[0],
            SEVERAL[1],
        ],
    };
    lines.iter().copied()
}

fn handling(scope: &Scope, commands: &Commands) -> Vec<String> {
    let inside = match scope {
        Scope::Namespace => r#"nsenter -t "$(docker inspect -f '{{.State.Pid}}' NAME)" -n "#,
        Scope::Forward { .. } | Scope::Cgroup { .. } => "",
    };
    let read_log = [format!("tshark -i nflog:{NFLOG_GROUP}")];
    let steps: [(&str, &[String]); 7] = [
        ("First", &commands.first),
        ("Check", &commands.check),
        ("Apply", &commands.apply),
        ("Apply again", &commands.again),
        ("Undo", &commands.undo),
        ("Counters", &commands.look),
        ("Log", &read_log),
    ];
    steps
        .iter()
        .flat_map(|(label, lines)| {
            let labels =
                std::iter::once(format!("{label}:")).chain(std::iter::repeat(String::new()));
            labels
                .zip(*lines)
                .map(move |(label, line)| format!("{label:<12} {inside}{line}"))
        })
        .collect()
}

fn list(label: &str, texts: &[String]) -> Vec<String> {
    if texts.is_empty() {
        return Vec::new();
    }
    let items = texts.iter().map(|each| format!("  {}", text::line(each)));
    [String::new(), format!("{label}:")]
        .into_iter()
        .chain(items)
        .collect()
}
