//! What each backend can say: the table that `--format list` prints.

use clap::ValueEnum as _;

use super::{Format, Options};

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

/// What a format can say about names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Nothing.
    Addresses,
    /// The workload has them resolved: it must be able to ask.
    Resolved,
    /// They are judged as they are asked for: whoever enforces the rules resolves them.
    Asked,
}

impl Format {
    /// What it can say about names, with these options.
    #[must_use]
    pub fn naming(self, options: &Options) -> Naming {
        match self {
            Self::Nftables if options.name_sets => Naming::Resolved,
            Self::Nftables
            | Self::Iptables
            | Self::Ip6tables
            | Self::Ipset
            | Self::IptablesIpset
            | Self::Ip6tablesIpset
            | Self::NetworkPolicy
            | Self::Calico => Naming::Addresses,
            Self::Cilium | Self::Dnsmasq | Self::Json => Naming::Resolved,
            Self::Squid | Self::Domains | Self::HardenRunner | Self::SandboxRuntime => {
                Naming::Asked
            }
        }
    }

    /// Whether it can say addresses at all.
    #[must_use]
    pub fn takes_addresses(self) -> bool {
        match self {
            Self::Dnsmasq | Self::Domains | Self::HardenRunner | Self::SandboxRuntime => false,
            Self::Nftables
            | Self::Iptables
            | Self::Ip6tables
            | Self::Ipset
            | Self::IptablesIpset
            | Self::Ip6tablesIpset
            | Self::NetworkPolicy
            | Self::Calico
            | Self::Cilium
            | Self::Squid
            | Self::Json => true,
        }
    }

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
    out + "\nNo format can tell processes apart, and tools only nftables (`render --per-tool`). What one cannot say is named on standard \
           error and,\nwhere the format has comments, in the output; with --exact it is an error.\n"
}
