//! `SeenAt`: where rules are enforced, and what is seen there of a destination.

use std::net::IpAddr;

use crate::{
    policy::{model::Service, translation::Translation},
    render::{Format, Scope},
};

/// Where rules are enforced. Each sees what the rewrites before it have made of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenAt {
    /// In the network namespace, on the way out.
    Output,
    /// On the host, which has rewritten by then. Does not see what never leaves the namespace.
    Forward,
    /// By whatever enforces a cluster's network policies: before the host rewrites, or after it.
    Network,
}

impl SeenAt {
    /// Where rules of that format and scope are enforced.
    #[must_use]
    pub fn of(format: Format, scope: &Scope) -> Self {
        match format {
            Format::NetworkPolicy | Format::Cilium | Format::Calico => Self::Network,
            Format::Nftables
            | Format::Iptables
            | Format::Ip6tables
            | Format::Ipset
            | Format::IptablesIpset
            | Format::Ip6tablesIpset
            | Format::Dnsmasq
            | Format::Squid
            | Format::Domains
            | Format::HardenRunner
            | Format::SandboxRuntime
            | Format::Json => Self::from(scope),
        }
    }

    /// What is seen there of a service that was asked for; `None`: as asked.
    pub(super) fn sees(self, translation: &Translation) -> Vec<Option<(IpAddr, Service)>> {
        match self {
            Self::Output => vec![translation.leaves()],
            Self::Forward => vec![translation.is_forwarded()],
            Self::Network if translation.left.is_by_host() => {
                vec![None, translation.is_forwarded()]
            }
            Self::Network => vec![translation.leaves()],
        }
    }
}

impl From<&Scope> for SeenAt {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Namespace | Scope::Cgroup { .. } => Self::Output,
            Scope::Forward { .. } => Self::Forward,
        }
    }
}
