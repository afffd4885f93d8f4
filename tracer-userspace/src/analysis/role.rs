//! What a destination is there for, where address, port or name tell.

use std::net::IpAddr;

use crate::{
    analysis::services::{self, Kind, RESOLVERS},
    record::{Protocol, Role},
};

/// The role of `port` at `address`, which was reached under `names`.
#[must_use]
pub fn role<'a>(
    address: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
    mut names: impl Iterator<Item = &'a str>,
) -> Option<Role> {
    let is_public = RESOLVERS.contains(&address);
    let is_web = [Protocol::TCP, Protocol::UDP].contains(&protocol);
    match (protocol, port?) {
        (Protocol::UDP, 123) => Some(Role::Ntp),
        (Protocol::TCP, 853) => Some(Role::Dot),
        (Protocol::UDP, 853) => Some(Role::Doq),
        (Protocol::TCP | Protocol::UDP, 53) if is_public => Some(Role::PublicResolver),
        (Protocol::TCP | Protocol::UDP, 53) => Some(Role::Resolver),
        (_, 443) if is_web => {
            let is_resolvers = |name| services::kind_of(name) == Some(Kind::Resolver);
            (is_public || names.any(is_resolvers)).then_some(Role::Doh)
        }
        _others => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let cases = [
            ("9.9.9.9", Protocol::UDP, 53, "", Some(Role::PublicResolver)),
            ("10.0.0.2", Protocol::UDP, 53, "", Some(Role::Resolver)),
            ("10.0.0.2", Protocol::TCP, 53, "", Some(Role::Resolver)),
            ("9.9.9.9", Protocol::TCP, 443, "", Some(Role::Doh)),
            ("9.9.9.9", Protocol::UDP, 443, "", Some(Role::Doh)),
            (
                "203.0.113.1",
                Protocol::TCP,
                443,
                "dns.google",
                Some(Role::Doh),
            ),
            ("203.0.113.1", Protocol::TCP, 443, "example.com", None),
            ("203.0.113.1", Protocol::TCP, 853, "", Some(Role::Dot)),
            ("203.0.113.1", Protocol::UDP, 853, "", Some(Role::Doq)),
            ("203.0.113.1", Protocol::UDP, 123, "", Some(Role::Ntp)),
            ("203.0.113.1", Protocol::TCP, 123, "", None),
            ("9.9.9.9", Protocol::TCP, 80, "", None),
        ];
        for (address, protocol, port, name, expected) in cases {
            let address = address.parse().expect("a test address");
            let found = role(address, protocol, Some(port), std::iter::once(name));
            assert_eq!(found, expected, "{address} {protocol} {port} {name}");
        }
        let address = "9.9.9.9".parse().expect("a test address");
        assert_eq!(
            role(address, Protocol::ICMP, None, std::iter::empty()),
            None
        );
    }
}
