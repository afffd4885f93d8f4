//! `Tool`: what people would use instead, how it is started, and what a line of its output tells.

/// How a tool comes to its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It runs beside, and is ready soon after its stderr or stdout holds this, if anything.
    Beside(&'static str),
    /// It starts the load itself.
    Around,
}

/// A connection, as a line tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Whose; `None` if the tool does not know.
    pub(super) pid: Option<u32>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Tool {
    /// In the table.
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    /// Debian's, which has it.
    pub(super) package: &'static str,
    pub(super) arguments: &'static [&'static str],
    pub(super) way: Way,
    /// For nft, in the network that it listens to, beforehand.
    pub(super) rules: Option<&'static str>,
    /// A connection, if the line tells of one.
    pub(super) connection: fn(&str) -> Option<Told>,
}

/// Each connection and each datagram, with process and destination: by tracepoints, which every
/// kernel has.
const BPFTRACE: &str = r#"
tracepoint:sock:inet_sock_set_state /args->newstate == 2/ {
    printf("connect %d %s %s %d\n", pid, comm, ntop(args->family, args->daddr), args->dport);
}
tracepoint:syscalls:sys_enter_sendto { printf("sendto %d %s\n", pid, comm); }
"#;

/// A network does not follow connections until somebody asks for it.
const FOLLOW: &str = "add table inet bench; \
    add chain inet bench out { type filter hook output priority 0; }; \
    add rule inet bench out ct state new counter";

pub(super) const TOOLS: [Tool; 6] = [
    Tool {
        name: "bpftrace",
        program: "bpftrace",
        package: "bpftrace",
        arguments: &["-e", BPFTRACE],
        way: Way::Beside("Attaching"),
        rules: None,
        connection: |line| column("connect", 1, line),
    },
    Tool {
        name: "tcplife (libbpf-tools)",
        program: "tcplife",
        package: "libbpf-tools",
        arguments: &[],
        way: Way::Beside(""),
        rules: None,
        connection: tcplife,
    },
    Tool {
        name: "tcpconnect (libbpf-tools)",
        program: "tcpconnect",
        package: "libbpf-tools",
        arguments: &[],
        way: Way::Beside(""),
        rules: None,
        connection: |line| numbered(0, line),
    },
    Tool {
        name: "tcpdump",
        program: "tcpdump",
        package: "tcpdump",
        arguments: &["-i", "lo", "-n", "-l", "tcp[tcpflags] == tcp-syn or udp"],
        way: Way::Beside("listening on"),
        rules: None,
        connection: |line| line.contains("Flags [S],").then_some(Told { pid: None }),
    },
    Tool {
        name: "conntrack -E",
        program: "conntrack",
        package: "conntrack",
        arguments: &["-E", "-e", "NEW"],
        way: Way::Beside(""),
        rules: Some(FOLLOW),
        connection: |line| line.contains("[NEW] tcp").then_some(Told { pid: None }),
    },
    Tool {
        name: "strace -f",
        program: "strace",
        package: "strace",
        arguments: &[
            "-f",
            "-qq",
            "-e",
            "trace=execve,connect,sendto",
            "-s",
            "128",
        ],
        way: Way::Around,
        rules: None,
        connection: |line| {
            let is_one = line.contains(" connect(") && line.contains("AF_INET");
            numbered(0, line).filter(|_| is_one)
        },
    },
];

/// Of lines that begin with `first`, the pid in column `at`.
fn column(first: &str, at: usize, line: &str) -> Option<Told> {
    let is_one = line.split_ascii_whitespace().next() == Some(first);
    numbered(at, line).filter(|_| is_one)
}

/// A line with a pid in column `at`.
fn numbered(at: usize, line: &str) -> Option<Told> {
    let pid = line.split_ascii_whitespace().nth(at)?.parse().ok()?;
    Some(Told { pid: Some(pid) })
}

/// It tells of both ends: of the server's with the address that was connected to as the local one.
fn tcplife(line: &str) -> Option<Told> {
    let local = line.split_ascii_whitespace().nth(2);
    numbered(0, line).filter(|_| local == Some("127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as each of them writes them, on this project's machine.
    #[test]
    fn connections_are_told_from_everything_else() {
        let with = |pid| Some(Told { pid: Some(pid) });
        for (name, line, expected) in [
            ("bpftrace", "connect 17 curl 127.0.0.1 443", with(17)),
            ("bpftrace", "sendto 17 curl", None),
            ("bpftrace", "Attaching 2 probes...", None),
            (
                "tcplife (libbpf-tools)",
                "17 curl 127.0.0.1 45678 127.32.0.1 443 0 0 0.05",
                with(17),
            ),
            (
                "tcplife (libbpf-tools)",
                "17 curl 127.32.0.1 443 127.0.0.1 45678 0 0 0.05",
                None,
            ),
            (
                "tcpdump",
                "12:00:00.000000 IP 127.0.0.1.45678 > 127.32.0.1.443: Flags [S], seq 1, win 65495",
                Some(Told { pid: None }),
            ),
            (
                "tcpdump",
                "12:00:00.000000 IP 127.0.0.1.45678 > 127.32.0.1.443: UDP, length 4",
                None,
            ),
            (
                "conntrack -E",
                "    [NEW] tcp      6 120 SYN_SENT src=127.0.0.1 dst=127.32.0.1 sport=1 dport=2",
                Some(Told { pid: None }),
            ),
            (
                "strace -f",
                "17 connect(3, {sa_family=AF_INET, sin_port=htons(443)}, 16 <unfinished ...>",
                with(17),
            ),
            ("strace -f", "17 <... connect resumed>) = 0", None),
            (
                "strace -f",
                "17 connect(3, {sa_family=AF_UNIX, sun_path=\"/run/nscd/socket\"}, 110) = -1",
                None,
            ),
        ] {
            let tool = TOOLS.iter().find(|tool| tool.name == name);
            let told = tool.map(|tool| (tool.connection)(line));
            assert_eq!(told, Some(expected), "{name}: {line}");
        }
    }
}
