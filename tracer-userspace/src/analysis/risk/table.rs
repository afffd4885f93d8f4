//! The table of findings.

use super::{
    Basis::{Destination, Figures},
    Rule,
    Severity::{self, Critical, High, Low, Medium},
    behaviour, destination,
};

const fn rule(
    id: &'static str,
    severity: Severity,
    why: &'static str,
    holds: fn(&super::Subject<'_>) -> bool,
) -> Rule {
    Rule {
        id,
        severity,
        basis: Destination,
        is_broad: false,
        why,
        holds,
    }
}

const fn broad(rule: Rule) -> Rule {
    Rule {
        is_broad: true,
        ..rule
    }
}

const fn figures(rule: Rule) -> Rule {
    Rule {
        basis: Figures,
        ..rule
    }
}

/// Every finding there is.
pub const RULES: [Rule; 28] = [
    rule(
        "metadata-service",
        Critical,
        "The cloud's metadata service hands out the machine's credentials to whoever asks.",
        destination::metadata,
    ),
    broad(rule(
        "wildcard",
        High,
        "Every name below the parent is allowed, also those that somebody else may register.",
        destination::wildcard,
    )),
    broad(rule(
        "broad",
        High,
        "More addresses are opened than the limit (256; of IPv6, as many /64 networks).",
        destination::breadth,
    )),
    rule(
        "tunnel-service",
        High,
        "A tunnelling service leads to whichever machine its user chooses.",
        destination::tunnel_service,
    ),
    rule(
        "paste-service",
        High,
        "A paste service takes text from anybody: a common way to carry data out.",
        destination::paste_service,
    ),
    rule(
        "file-drop",
        High,
        "A file-sharing service takes files from anybody: a common way to carry data out.",
        destination::file_drop,
    ),
    rule(
        "webhook-service",
        High,
        "A webhook or request-catching service shows what it is sent to whoever made the address.",
        destination::webhook_service,
    ),
    rule(
        "tunnelling-name",
        High,
        "The name has the shape of data in DNS questions: long labels that are not words.",
        destination::tunnelling_name,
    ),
    rule(
        "telemetry",
        Medium,
        "A telemetry service: what is reported there, and whether anybody wants that, is a decision.",
        destination::telemetry,
    ),
    rule(
        "public-resolver",
        Medium,
        "A public resolver answers past the local one, where questions are seen and filtered.",
        destination::public_resolver,
    ),
    rule(
        "encrypted-dns",
        Medium,
        "DNS over TLS or QUIC: questions go out that no local resolver sees, and names come from connections alone.",
        destination::encrypted_dns,
    ),
    rule(
        "cleartext",
        Medium,
        "A protocol without encryption: whoever is on the way reads it, and may answer.",
        destination::cleartext,
    ),
    rule(
        "unusual-port",
        Medium,
        "No well-known service has this port: what is spoken there, only the workload knows.",
        destination::unusual_port,
    ),
    rule(
        "odd-protocol",
        Medium,
        "Neither TCP nor UDP nor ICMP: few firewalls and fewer logs look into it.",
        destination::odd_protocol,
    ),
    rule(
        "private-address",
        Medium,
        "A private, link-local or multicast address: something near, such as the host or a neighbour.",
        destination::private,
    ),
    rule(
        "high-entropy-name",
        Medium,
        "The name looks random: made by a machine, for one customer, or to be found by nobody.",
        destination::high_entropy,
    ),
    rule(
        "shared-front",
        Medium,
        "A content network's address: whoever has a name behind it is reached there too, so it says little about who is.",
        destination::shared_front,
    ),
    rule(
        "literal-address",
        Low,
        "An address without a name: it may belong to somebody else tomorrow.",
        destination::literal,
    ),
    figures(rule(
        "writable-path",
        High,
        "A process ran from where the workload may write, from memory, or from a deleted file.",
        behaviour::writable_path,
    )),
    figures(rule(
        "name-mismatch",
        High,
        "A connection gave another name than the answers did: whoever has both names may be meant by either (domain fronting).",
        behaviour::name_mismatch,
    )),
    figures(rule(
        "claimed-name",
        Medium,
        "Only the connection itself gave a name, and a workload writes there what it likes: it proves nothing.",
        behaviour::claimed_name,
    )),
    figures(rule(
        "shared-address",
        Low,
        "An address of it has other names too: rules that see addresses open those with it.",
        behaviour::shared_address,
    )),
    figures(rule(
        "other-tool",
        Medium,
        "Another tool went there than those that the entry is for.",
        behaviour::other_tool,
    )),
    figures(rule(
        "outside-tools",
        Low,
        "Something went there outside of any tool that is known, while the log tells tools apart.",
        behaviour::outside_tools,
    )),
    figures(rule(
        "sends-more",
        Medium,
        "At least 1 MB went out, and ten times what came back.",
        behaviour::sends_more,
    )),
    figures(rule(
        "never-answered",
        Medium,
        "No attempt was ever answered, and no datagram: one-way as a log's, or the workload does not need it, or needs it and fails.",
        behaviour::never_answered,
    )),
    figures(rule(
        "one-run",
        Low,
        "Seen in one run only, of several: a rare path, or a passing one.",
        behaviour::one_run,
    )),
    figures(rule(
        "incomplete",
        Medium,
        "The evidence is incomplete: the figures are lower bounds, and a destination may be missing.",
        behaviour::incomplete,
    )),
];
