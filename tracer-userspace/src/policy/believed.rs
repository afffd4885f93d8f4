//! `Believed`: the names by which a flow may be allowed.
//!
//! A workload writes its own SNI and Host, so a name that only it claims is none of them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use crate::{
    place,
    policy::{
        model::{Service, Target},
        observe::Destination,
        seen::Figures,
        translation::Left,
    },
    record::{Confidence, Name, NameSource, Place},
};

/// Exact host names, sorted. Empty: only the address can be allowed. Several: one connection may
/// have been to any of them, or several were made.
pub type Believed = BTreeSet<Arc<str>>;

/// What a flow to `destination` may be allowed by: the proven names, else the resolved one, else
/// those that share the address.
///
/// What was rewritten goes by address: no set of names holds the place where it ends. So do
/// resolvers, which rules by name need before there are any names.
#[must_use]
pub fn believed(destination: &Destination, figures: &Figures<'_>) -> Believed {
    let is_rewritten = matches!(figures.left, Some(Left::To { .. }));
    if is_rewritten || is_dns(&destination.service) || !may_have_a_name(destination.ip) {
        return Believed::new();
    }
    [Confidence::Proven, Confidence::Resolved, Confidence::Shared]
        .into_iter()
        .map(|confidence| of_confidence(figures.names, confidence))
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

/// Whether an answer with this address can be meant well. Whoever owns a name may have it resolve
/// to the metadata service, to the link, or to this machine.
#[must_use]
pub fn may_have_a_name(address: IpAddr) -> bool {
    match place::place(address) {
        None | Some(Place::Private | Place::Shared | Place::Documentation) => true,
        Some(
            Place::Loopback
            | Place::Unspecified
            | Place::LinkLocal
            | Place::Metadata
            | Place::Multicast
            | Place::Broadcast,
        ) => false,
    }
}

fn of_confidence(names: &[Name], confidence: Confidence) -> Believed {
    names
        .iter()
        .filter(|name| name.confidence == Some(confidence) && is_of_the_address(name.source))
        // Whoever fills sets by name hears the workload's answers, not those of others.
        .filter(|name| name.via.is_none())
        .filter(|name| is_exact(&name.name))
        .map(|name| Arc::from(name.name.as_str()))
        .collect()
}

/// A proxy's target is not at the proxy's address.
fn is_of_the_address(source: NameSource) -> bool {
    match source {
        NameSource::Dns | NameSource::Sni | NameSource::Quic | NameSource::Http => true,
        NameSource::Proxy => false,
    }
}

/// Whether an entry can be written for the name as it stands: a host name, and no wildcard.
fn is_exact(name: &str) -> bool {
    matches!(name.parse(), Ok(Target::Name(read)) if read == name)
}

fn is_dns(service: &Service) -> bool {
    matches!(
        service,
        Service::Port {
            protocol: _,
            port: 53
        }
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::record::Channel;

    fn name(name: &str, source: NameSource, confidence: Confidence) -> Name {
        Name {
            name: name.to_owned(),
            source,
            confidence: Some(confidence),
            port: None,
            ech: false,
            alpn: Vec::new(),
            via: None,
        }
    }

    fn by(to: &str, service: &str, names: &[Name], left: Option<Left>) -> Vec<String> {
        let destination = Destination {
            ip: to.parse().unwrap(),
            service: service.parse().unwrap(),
        };
        let figures = Figures {
            names,
            left,
            ..Figures::once(Channel::Connect)
        };
        let names = believed(&destination, &figures);
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_proven_comes_before_what_is_shared() {
        use Confidence::{Claimed, Proven, Resolved, Shared};
        let of = |names: &[Name]| by("198.51.100.7", "443/tcp", names, None);
        let dns = |text, confidence| name(text, NameSource::Dns, confidence);
        let sni = |text, confidence| name(text, NameSource::Sni, confidence);
        let proven = [
            sni("a.example", Proven),
            dns("a.example", Proven),
            dns("b.example", Shared),
        ];
        assert_eq!(of(&proven), ["a.example"]);
        assert_eq!(of(&[dns("a.example", Resolved)]), ["a.example"]);
        let shared = [dns("a.example", Shared), dns("b.example", Shared)];
        assert_eq!(of(&shared), ["a.example", "b.example"]);
        assert!(of(&[sni("a.example", Claimed)]).is_empty());
        let fronted = [sni("evil.example", Claimed), dns("a.example", Resolved)];
        assert_eq!(of(&fronted), ["a.example"]);
        assert!(of(&[name("a.example", NameSource::Proxy, Proven)]).is_empty());
    }

    #[test]
    fn only_exact_host_names_are_believed() {
        let dns = |text: &str| [name(text, NameSource::Dns, Confidence::Resolved)];
        let of = |text: &str| by("198.51.100.7", "443/tcp", &dns(text), None);
        let long = format!("{}.example", vec!["a".repeat(63); 4].join("."));
        for bad in [
            "*.example",
            "a\\010.example",
            "a\".example",
            "1.2.3.4",
            "A.example",
            "a.example.",
            "",
            &long,
        ] {
            assert!(of(bad).is_empty(), "{bad}");
        }
        assert_eq!(of("xn--bcher-kva.example"), ["xn--bcher-kva.example"]);
    }

    #[test]
    fn resolvers_rewritten_and_suspicious_addresses_go_by_address() {
        let dns = [name("a.example", NameSource::Dns, Confidence::Proven)];
        let of = |to, service, left| by(to, service, &dns, left);
        assert!(of("198.51.100.7", "53/udp", None).is_empty());
        let left = Some(Left::To {
            ip: "127.0.0.1".parse().unwrap(),
            port: None,
        });
        assert!(of("198.51.100.7", "443/tcp", left).is_empty());
        for place in ["169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255"] {
            assert!(of(place, "443/tcp", None).is_empty(), "{place}");
        }
        assert_eq!(of("10.0.0.1", "443/tcp", None), ["a.example"]);
        assert_eq!(of("198.51.100.7", "icmp", None), ["a.example"]);
    }
}
