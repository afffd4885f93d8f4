//! What each backend can say: the table that `--format list` prints.

use clap::ValueEnum as _;

use super::Format;

/// What can be said in a format.
struct Language {
    /// How destinations are told apart.
    destinations: &'static str,
    services: &'static str,
    /// Whether it can log without enforcing.
    dry_run: &'static str,
    /// What reads it.
    tool: &'static str,
}

impl Format {
    fn language(self) -> Language {
        let of = |destinations, services, dry_run, tool| Language {
            destinations,
            services,
            dry_run,
            tool,
        };
        match self {
            Self::Nftables => of("IPv4, IPv6", "all", "yes", "nft -f"),
            Self::Iptables => of("IPv4", "all", "yes", "iptables-restore"),
            Self::Ip6tables => of("IPv6", "all", "yes", "ip6tables-restore"),
            Self::Ipset => of("IPv4, IPv6", "ports", "sets alone", "ipset restore"),
            Self::IptablesIpset => of("IPv4", "all", "yes", "iptables-restore, after ipset"),
            Self::Ip6tablesIpset => of("IPv6", "all", "yes", "ip6tables-restore, after ipset"),
            Self::NetworkPolicy => of("IPv4, IPv6", "tcp udp sctp", "no", "Kubernetes"),
            Self::Cilium => of(
                "IPv4, IPv6, names",
                "tcp udp sctp, ICMP types",
                "no",
                "Kubernetes with Cilium",
            ),
            Self::Calico => of(
                "IPv4, IPv6",
                "tcp udp sctp, protocols, ICMP types",
                "yes",
                "Kubernetes with Calico",
            ),
            Self::Dnsmasq => of(
                "names and all below",
                "all but ICMP types",
                "sets alone",
                "dnsmasq, after nftables --name-sets",
            ),
            Self::Squid => of("IPv4, IPv6, names", "tcp", "no", "squid"),
            Self::Domains => of(
                "names",
                "none: any port",
                "a list alone",
                "Envoy, other proxies",
            ),
            Self::HardenRunner => of("names", "tcp", "yes", "GitHub workflows"),
            Self::SandboxRuntime => of("names", "none: any port", "no", "sandbox-runtime"),
            Self::Json => of("all", "all", "data alone", "programs"),
        }
    }
}

/// The table, a line for each format.
#[must_use]
pub fn list() -> String {
    let line = |format: &str, language: &Language| {
        let Language {
            destinations,
            services,
            dry_run,
            tool,
        } = language;
        format!("{format:<16}  {destinations:<19}  {services:<35}  {dry_run:<12}  {tool}\n")
    };
    let head = Language {
        destinations: "DESTINATIONS",
        services: "SERVICES",
        dry_run: "DRY RUN",
        tool: "READ BY",
    };
    let mut out = line("FORMAT", &head);
    for format in Format::ALL {
        let name = format.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        out += &line(name, &format.language());
    }
    out + "\nNo format can tell tools or processes apart. What one cannot say is named on standard \
           error and,\nwhere the format has comments, in the output; with --exact it is an error.\n"
}
