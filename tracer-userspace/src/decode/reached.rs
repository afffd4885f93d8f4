//! Which addresses the answers to a question lead to.

use std::{collections::BTreeMap, net::IpAddr};

use crate::decode::dns::{Answer, Data};

/// The longest chain of aliases that resolvers follow.
const MAX_CHAIN: usize = 16;

/// The addresses to which a name leads in the answers, by way of aliases, each with the shortest TTL
/// (seconds) on the way. Records about other names are nobody's answer.
#[must_use]
pub fn addresses(question: &str, answers: &[Answer]) -> Vec<(IpAddr, u32)> {
    let mut names = BTreeMap::from([(question, u32::MAX)]);
    for _ in 0..MAX_CHAIN {
        let before = names.len();
        for answer in answers {
            let reached = names.get(answer.name.as_str()).copied();
            if let (Data::Alias(target), Some(ttl)) = (&answer.data, reached) {
                names.entry(target).or_insert(ttl.min(answer.ttl));
            }
        }
        if names.len() == before {
            break;
        }
    }
    let mut found = Vec::new();
    for answer in answers {
        let Some(ttl) = names.get(answer.name.as_str()) else {
            continue;
        };
        let ttl = answer.ttl.min(*ttl);
        match &answer.data {
            Data::Address(address) => found.push((*address, ttl)),
            Data::Hints { addresses, .. } => {
                found.extend(addresses.iter().map(|address| (*address, ttl)));
            }
            Data::Alias(_) | Data::Service { .. } | Data::Pointer(_) | Data::Other => {}
        }
    }
    found
}

/// The host of a service binding's name, `_8443._https.host` (RFC 9460 section 2.3).
#[must_use]
pub fn host(name: &str) -> &str {
    let mut rest = name;
    while let Some((_, after)) = rest
        .split_once('.')
        .filter(|(label, _)| label.starts_with('_'))
    {
        rest = after;
    }
    rest
}
