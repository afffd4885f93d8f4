//! What a connection says of itself, and how far each name is to be believed.

use crate::{
    decode::{first_bytes::FirstBytes, tls::ClientHello},
    record::{Confidence, Name, NameSource},
    wire::answers::Resolved,
};

/// Protocols of one hello that are kept, and the longest: those in use have a few letters.
const MAX_PROTOCOLS: usize = 8;
const MAX_PROTOCOL: usize = 32;

/// The names in a TCP client's first bytes, without a confidence yet.
#[must_use]
pub fn of_first_bytes(told: &FirstBytes) -> Vec<Name> {
    let proxy = told.proxy.as_ref().map(|proxy| Name {
        port: proxy.port,
        ..name(&proxy.host, NameSource::Proxy)
    });
    let host = told.host.as_ref();
    let host = host.map(|host| name(&host.host, NameSource::Http));
    let hello = told.hello.as_ref();
    let hello = hello.and_then(|hello| of_hello(hello, NameSource::Sni));
    [proxy, host, hello].into_iter().flatten().collect()
}

/// The name in a TLS hello, without a confidence yet.
#[must_use]
pub fn of_hello(hello: &ClientHello, source: NameSource) -> Option<Name> {
    let sni = hello.sni.as_ref()?;
    let short = |protocol: &&String| protocol.len() <= MAX_PROTOCOL;
    let offered = hello.alpn.iter().filter(short).take(MAX_PROTOCOLS);
    Some(Name {
        ech: hello.ech,
        alpn: offered.cloned().collect(),
        ..name(sni, source)
    })
}

/// Every name of a connection, with how far it is to be believed.
///
/// A proxy's target is not at the proxy's address, so that no answer can prove it here. An answer
/// that has run out proves a name only if the connection says the same.
#[must_use]
pub fn names(claims: &[Name], resolved: &Resolved) -> Vec<Name> {
    let Resolved {
        valid,
        outlived,
        via,
    } = resolved;
    let is_resolved = |name: &str| valid.iter().chain(outlived).any(|known| **known == *name);
    let own = claims.iter().map(|claim| {
        let is_proven = claim.source != NameSource::Proxy && is_resolved(&claim.name);
        let confidence = if is_proven {
            Confidence::Proven
        } else {
            Confidence::Claimed
        };
        Name {
            confidence: Some(confidence),
            ..claim.clone()
        }
    });
    let mut names: Vec<Name> = own.collect();
    let is_proven = |names: &[Name], resolved: &str| {
        let agrees =
            |own: &Name| own.confidence == Some(Confidence::Proven) && own.name == resolved;
        names.iter().any(agrees)
    };
    let held = outlived.iter().filter(|name| is_proven(&names, name));
    let held: Vec<_> = held.cloned().collect();
    for resolved in valid.iter().chain(&held) {
        let confidence = if is_proven(&names, resolved) {
            Confidence::Proven
        } else if valid.len() > 1 {
            Confidence::Shared
        } else {
            Confidence::Resolved
        };
        names.push(Name {
            confidence: Some(confidence),
            via: via.as_deref().map(str::to_owned),
            ..name(resolved, NameSource::Dns)
        });
    }
    names
}

fn name(text: &str, source: NameSource) -> Name {
    Name {
        name: text.to_owned(),
        source,
        confidence: None,
        port: None,
        ech: false,
        alpn: Vec::new(),
        via: None,
    }
}
