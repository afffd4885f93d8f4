//! Content networks, behind whose addresses everybody's names are: what an address of theirs says is
//! next to nothing.
//!
//! Sources: the lists that Cloudflare (`ips-v4`, `ips-v6`) and Fastly (`public-ip-list`) publish, as
//! of July 2025, for those without a ranges file; for all others, what the providers' lists call
//! such services.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    policy::model::Target,
    ranges::{Ranges, Tag},
};

/// Names below which everybody's are.
const NAMES: [&str; 12] = [
    "akamaiedge.net",
    "akamaized.net",
    "azureedge.net",
    "azurefd.net",
    "b-cdn.net",
    "cdn.cloudflare.net",
    "cloudfront.net",
    "edgekey.net",
    "edgesuite.net",
    "fastly.net",
    "fastlylb.net",
    "llnwd.net",
];

/// Whether `to` stands for addresses of a content network, or for every name below one's.
#[must_use]
pub fn is_front(to: &Target, ranges: Option<&Ranges>) -> bool {
    match to {
        Target::Published(range) => is_front_tag(&range.tag),
        Target::Address(_) | Target::Network(_) => {
            to.networks().iter().any(|each| is_inside(each, ranges))
        }
        // One name behind a front is one name.
        Target::Name(_) => false,
        Target::Wildcard(parent) => {
            let is_below = |name: &str| {
                let rest = parent.strip_suffix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            NAMES.iter().any(|name| is_below(name))
        }
    }
}

fn is_inside(network: &IpNet, ranges: Option<&Ranges>) -> bool {
    let is_known = match network {
        IpNet::V4(network) => V4.iter().any(|front| front.contains(network)),
        IpNet::V6(network) => V6.iter().any(|front| front.contains(network)),
    };
    let tags = ranges.map_or_else(Vec::new, |ranges| ranges.all_of(network.network()));
    is_known || tags.into_iter().any(is_front_tag)
}

fn is_front_tag(tag: &Tag) -> bool {
    match (tag.provider.as_str(), tag.service.as_str()) {
        ("cloudflare" | "fastly", "CDN")
        | ("aws", "CLOUDFRONT" | "GLOBALACCELERATOR" | "API_GATEWAY")
        | ("github", "pages") => true,
        ("azure", service) => service.starts_with("AzureFrontDoor"),
        (_, _) => false,
    }
}

const V4: [Ipv4Net; 34] = [
    v4(173, 245, 48, 0, 20),
    v4(103, 21, 244, 0, 22),
    v4(103, 22, 200, 0, 22),
    v4(103, 31, 4, 0, 22),
    v4(141, 101, 64, 0, 18),
    v4(108, 162, 192, 0, 18),
    v4(190, 93, 240, 0, 20),
    v4(188, 114, 96, 0, 20),
    v4(197, 234, 240, 0, 22),
    v4(198, 41, 128, 0, 17),
    v4(162, 158, 0, 0, 15),
    v4(104, 16, 0, 0, 13),
    v4(104, 24, 0, 0, 14),
    v4(172, 64, 0, 0, 13),
    v4(131, 0, 72, 0, 22),
    v4(23, 235, 32, 0, 20),
    v4(43, 249, 72, 0, 22),
    v4(103, 244, 50, 0, 24),
    v4(103, 245, 222, 0, 23),
    v4(103, 245, 224, 0, 24),
    v4(104, 156, 80, 0, 20),
    v4(140, 248, 64, 0, 18),
    v4(140, 248, 128, 0, 17),
    v4(146, 75, 0, 0, 17),
    v4(151, 101, 0, 0, 16),
    v4(157, 52, 64, 0, 18),
    v4(167, 82, 0, 0, 17),
    v4(167, 82, 128, 0, 20),
    v4(167, 82, 160, 0, 20),
    v4(167, 82, 224, 0, 20),
    v4(172, 111, 64, 0, 18),
    v4(185, 31, 16, 0, 22),
    v4(199, 27, 72, 0, 21),
    v4(199, 232, 0, 0, 16),
];

const V6: [Ipv6Net; 9] = [
    v6(0x2400, 0xcb00, 32),
    v6(0x2606, 0x4700, 32),
    v6(0x2803, 0xf800, 32),
    v6(0x2405, 0xb500, 32),
    v6(0x2405, 0x8100, 32),
    v6(0x2a06, 0x98c0, 29),
    v6(0x2c0f, 0xf248, 32),
    v6(0x2a04, 0x4e40, 32),
    v6(0x2a04, 0x4e42, 32),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::ranges;

    #[test]
    fn an_address_of_a_front_says_little_and_a_name_behind_it_says_all() {
        let front = |to: &str| is_front(&to.parse().unwrap(), None);
        for to in [
            "104.16.1.1",
            "151.101.0.0/22",
            "2606:4700::1111",
            "cloudflare:CDN",
            "aws:CLOUDFRONT",
            "azure:AzureFrontDoor.Frontend",
            "*.cloudfront.net",
            "*.global.fastly.net",
        ] {
            assert!(front(to), "{to}");
        }
        for to in [
            "192.0.2.1",
            "104.0.0.0/8",
            "2001:db8::1",
            "aws:S3",
            "d111.cloudfront.net",
            "*.mycloudfront.net",
        ] {
            assert!(!front(to), "{to}");
        }
    }

    #[test]
    fn the_ranges_file_knows_more_of_them() {
        let list = r#"{"createDate":"x","prefixes":[
            {"ip_prefix":"198.51.100.0/24","region":"GLOBAL","service":"AMAZON"},
            {"ip_prefix":"198.51.100.0/24","region":"GLOBAL","service":"CLOUDFRONT"},
            {"ip_prefix":"203.0.113.0/24","region":"GLOBAL","service":"EC2"}],
            "ipv6_prefixes":[]}"#;
        let ranges = Ranges::new(&[(ranges::read(list).unwrap(), String::new())]);
        let front = |to: &str| is_front(&to.parse().unwrap(), Some(&ranges));
        assert!(front("198.51.100.7"));
        assert!(!front("203.0.113.7"));
    }
}
