//! Which destinations are not the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::record::Place;

/// The metadata services of the large clouds. 169.254.169.254 is AWS, Azure, Google, Oracle,
/// DigitalOcean, OpenStack; 169.254.170.2 and .23 serve ECS and EKS credentials; 100.100.100.200
/// is Alibaba; 168.63.129.16 is Azure's host agent; fd00:ec2::254 and ::23 are AWS over IPv6.
pub const METADATA: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// Where `address` is; `None` for the public internet. Ranges from the IANA special-purpose
/// address registries (RFC 6890).
#[must_use]
pub fn place(address: IpAddr) -> Option<Place> {
    if METADATA.contains(&address) {
        return Some(Place::Metadata);
    }
    match address {
        IpAddr::V4(address) => place4(address),
        IpAddr::V6(address) => place6(address),
    }
}

fn place4(address: Ipv4Addr) -> Option<Place> {
    let [first, second, ..] = address.octets();
    if address.is_loopback() {
        Some(Place::Loopback)
    } else if address.is_unspecified() {
        Some(Place::Unspecified)
    } else if address.is_link_local() {
        Some(Place::LinkLocal)
    } else if address.is_private() {
        Some(Place::Private)
    } else if first == 100 && (64..128).contains(&second) {
        Some(Place::Shared)
    } else if address.is_multicast() {
        Some(Place::Multicast)
    } else if address.is_broadcast() {
        Some(Place::Broadcast)
    } else if address.is_documentation() {
        Some(Place::Documentation)
    } else {
        None
    }
}

fn place6(address: Ipv6Addr) -> Option<Place> {
    let [first, second, ..] = address.segments();
    if address.is_loopback() {
        Some(Place::Loopback)
    } else if address.is_unspecified() {
        Some(Place::Unspecified)
    } else if address.is_unicast_link_local() {
        Some(Place::LinkLocal)
    } else if address.is_unique_local() {
        Some(Place::Private)
    } else if address.is_multicast() {
        Some(Place::Multicast)
    } else if first == 0x2001 && second == 0xdb8 {
        Some(Place::Documentation)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let cases = [
            ("127.0.0.53", Some(Place::Loopback)),
            ("::1", Some(Place::Loopback)),
            ("0.0.0.0", Some(Place::Unspecified)),
            ("169.254.169.254", Some(Place::Metadata)),
            ("169.254.1.1", Some(Place::LinkLocal)),
            ("fe80::1", Some(Place::LinkLocal)),
            ("10.1.2.3", Some(Place::Private)),
            ("fd12::1", Some(Place::Private)),
            ("fd00:ec2::254", Some(Place::Metadata)),
            ("100.127.0.1", Some(Place::Shared)),
            ("100.128.0.1", None),
            ("224.0.0.251", Some(Place::Multicast)),
            ("ff02::fb", Some(Place::Multicast)),
            ("255.255.255.255", Some(Place::Broadcast)),
            ("198.51.100.7", Some(Place::Documentation)),
            ("2001:db8::7", Some(Place::Documentation)),
            ("9.9.9.9", None),
            ("2620:fe::fe", None),
        ];
        for (address, expected) in cases {
            let address = address.parse().expect("a test address");
            assert_eq!(place(address), expected, "{address}");
        }
    }
}
