//! `Names`: what lines say about names, for the connections that other lines tell of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Claim, Connection, Sighting, Told};
use crate::{
    policy::{Observations, model::Service},
    record::{Gap, GapKind, Name, NameSource, Protocol, Severity, canonical_ip},
    wire::{answers::Resolved, claims},
};

/// Times that addresses had names, and connections that named their peer. The bounds are of memory:
/// some 30 and 40 MB when full.
const MAX_TIMES: usize = 262_144;
const MAX_CLAIMS: usize = 524_288;
/// Claims of one connection.
const MAX_OF_ONE: usize = 8;
/// How much longer than its TTL an answer is used: clients round up.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How long it is used where the tool does not tell the TTL.
const UNKNOWN_TTL: u32 = 600;

/// When an address had a name, in order and apart from each other.
type Times = Vec<(Timestamp, Timestamp)>;

#[derive(Debug, Default)]
pub(in crate::import) struct Names {
    /// By client and address.
    resolved: HashMap<(IpAddr, IpAddr), BTreeMap<Arc<str>, Times>>,
    times: usize,
    claims: HashMap<Connection, Vec<Arc<Claim>>>,
    /// Each claim once.
    known: BTreeMap<(String, NameSource), Arc<Claim>>,
    /// What found no room.
    refused: u64,
}

impl Names {
    /// Takes in what a line says about names. Twice the same changes nothing.
    pub(in crate::import) fn note(&mut self, told: &Told) {
        match told {
            Told::Answer(answer) => self.answer(answer),
            Told::Claim { connection, claim } => self.claim(*connection, claim),
            Told::Sighting(sighting) => {
                if let (Some(connection), Some(claim)) = (sighting.connection, &sighting.claim) {
                    self.claim(connection, claim);
                }
            }
            Told::Ingress { .. } | Told::Lost(_) | Told::Nothing => {}
        }
    }

    /// Says in the evidence what found no room.
    pub(in crate::import) fn tell_refused(&self, observations: &mut Observations) {
        if self.refused > 0 {
            observations.add_gap(&Gap {
                what: GapKind::Connections,
                detail: "names of connections and addresses found no room".to_owned(),
                lost: Some(self.refused),
                severity: Severity::Detail,
            });
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let name: Arc<str> = Arc::from(answer.name.as_str());
        for (address, ttl) in &answer.addresses {
            if self.times >= MAX_TIMES {
                self.refused += 1;
                continue;
            }
            let life = i64::from(ttl.unwrap_or(UNKNOWN_TTL));
            let life = SignedDuration::from_secs(life) + GRACE;
            let until = answer.time.saturating_add(life).unwrap_or(Timestamp::MAX);
            let key = (answer.client, canonical_ip(*address));
            let times = self.resolved.entry(key).or_default();
            let times = times.entry(Arc::clone(&name)).or_default();
            let before = times.len();
            add(times, answer.time, until);
            self.times = self.times + times.len() - before;
        }
    }

    fn claim(&mut self, connection: Connection, claim: &Claim) {
        if self.claims.len() >= MAX_CLAIMS && !self.claims.contains_key(&connection) {
            self.refused += 1;
            return;
        }
        let key = (claim.name.clone(), claim.source);
        let known = self
            .known
            .entry(key)
            .or_insert_with(|| Arc::new(claim.clone()));
        let claims = self.claims.entry(connection).or_default();
        if claims.contains(known) {
            return;
        }
        if claims.len() >= MAX_OF_ONE {
            self.refused += 1;
            return;
        }
        claims.push(Arc::clone(known));
    }

    /// Every name of what was seen, each with how far it is to be believed.
    pub(in crate::import) fn of(&self, sighting: &Sighting) -> Vec<Name> {
        let joined = sighting
            .connection
            .and_then(|connection| self.claims.get(&connection));
        let joined = joined.into_iter().flatten().map(AsRef::as_ref);
        let claims: BTreeSet<Name> = joined
            .chain(&sighting.claim)
            .map(|claim| claimed(claim, &sighting.destination.service))
            .collect();
        let claims: Vec<Name> = claims.into_iter().collect();
        let mut names = claims::names(&claims, &self.resolved(sighting));
        for name in &sighting.names {
            if !names
                .iter()
                .any(|known| known.name == name.name && known.source == name.source)
            {
                names.push(name.clone());
            }
        }
        names
    }

    /// The names under which the client may have found the address then.
    fn resolved(&self, sighting: &Sighting) -> Resolved {
        let (Some(client), Some(time)) = (sighting.client, sighting.time) else {
            return Resolved::default();
        };
        let key = (canonical_ip(client), sighting.destination.ip);
        let names = self.resolved.get(&key).into_iter().flatten();
        let valid = names.filter(|(_, times)| {
            let after = times.partition_point(|(from, _)| *from <= time);
            after > 0 && time <= times[after - 1].1
        });
        Resolved {
            valid: valid.map(|(name, _)| Arc::clone(name)).collect(),
            outlived: Vec::new(),
            via: None,
        }
    }
}

/// TLS over UDP is QUIC's.
fn claimed(claim: &Claim, service: &Service) -> Name {
    let is_udp = matches!(
        service,
        Service::Port {
            protocol: Protocol::UDP,
            ..
        }
    );
    let source = match claim.source {
        NameSource::Sni if is_udp => NameSource::Quic,
        source @ (NameSource::Dns
        | NameSource::Sni
        | NameSource::Quic
        | NameSource::Http
        | NameSource::Proxy) => source,
    };
    Name {
        name: claim.name.clone(),
        source,
        confidence: None,
        port: None,
        ech: false,
        alpn: Vec::new(),
        via: None,
    }
}

/// Adds a time in order; times that touch become one.
fn add(times: &mut Times, mut from: Timestamp, mut until: Timestamp) {
    let first = times.partition_point(|(_, end)| *end < from);
    let last = times.partition_point(|(start, _)| *start <= until);
    if let Some(touched) = times.get(first..last).filter(|touched| !touched.is_empty()) {
        from = from.min(touched[0].0);
        until = touched
            .iter()
            .map(|(_, end)| *end)
            .fold(until, Timestamp::max);
    }
    times.splice(first..last.max(first), [(from, until)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    #[test]
    fn times_are_joined_in_any_order() {
        let pieces = [(10, 20), (15, 30), (40, 50), (0, 5), (30, 40), (60, 70)];
        let expected = vec![(at(0), at(5)), (at(10), at(50)), (at(60), at(70))];
        for turn in 0..pieces.len() {
            let mut times = Times::new();
            for step in 0..pieces.len() {
                let (from, until) = pieces[(turn + step) % pieces.len()];
                add(&mut times, at(from), at(until));
            }
            assert_eq!(times, expected, "begun with {turn}");
        }
    }
}
