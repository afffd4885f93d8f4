//! `Claimed`: what connections to a destination said of themselves, and which record has told it.
//!
//! A connection is counted when it is made and names itself later, sometimes much later. So the
//! last record of each destination is kept for a while, and what is said after it is told in a
//! record of its own that counts nothing.

use std::{collections::BTreeSet, mem, net::SocketAddr};

use jiff::Timestamp;

use crate::{
    decode::dns::Transport,
    enrich::machine::Origin,
    record::{Flow, Name},
    wire::generations::Generations,
};

/// Destinations with names that are kept: up to twice as many.
const MAX_DESTINATIONS: usize = 16_384;
/// Records that are kept for names to come, likewise.
const MAX_RECORDS: usize = 1024;
/// Names of one destination. More of them at a time than this are not told.
const MAX_NAMES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::aggregate) struct Destination {
    pub(in crate::aggregate) client: u64,
    pub(in crate::aggregate) transport: Transport,
    pub(in crate::aggregate) at: SocketAddr,
}

#[derive(Debug)]
struct Claim {
    name: Name,
    said: Timestamp,
    is_told: bool,
}

/// Names that were said after the record of their destination was written.
#[derive(Debug)]
pub(in crate::aggregate) struct Late {
    pub(in crate::aggregate) destination: Destination,
    pub(in crate::aggregate) claims: Vec<Name>,
    pub(in crate::aggregate) said: Timestamp,
    pub(in crate::aggregate) flow: Box<Flow>,
    pub(in crate::aggregate) origin: Origin,
}

#[derive(Debug)]
pub(in crate::aggregate) struct Claimed {
    claims: Generations<Destination, Vec<Claim>>,
    /// The last record of a destination, without names, and whose it is.
    records: Generations<Destination, (Box<Flow>, Origin)>,
    untold: BTreeSet<Destination>,
    /// Names that found no room.
    pub(super) refused: u64,
}

impl Default for Claimed {
    fn default() -> Self {
        Self {
            claims: Generations::new(MAX_DESTINATIONS),
            records: Generations::new(MAX_RECORDS),
            untold: BTreeSet::new(),
            refused: 0,
        }
    }
}

impl Claimed {
    pub(super) fn add(&mut self, destination: Destination, said: Timestamp, names: Vec<Name>) {
        if self.claims.get_mut(&destination).is_none() {
            self.forget(destination);
        }
        let Some(claims) = self.claims.get_mut(&destination) else {
            return;
        };
        for name in names {
            if let Some(claim) = claims.iter_mut().find(|claim| claim.name == name) {
                claim.said = claim.said.max(said);
                continue;
            }
            if claims.len() >= MAX_NAMES {
                // Who says something else every time is heard, but not remembered.
                claims.retain(|claim| !claim.is_told);
            }
            if claims.len() >= MAX_NAMES {
                self.refused += 1;
                continue;
            }
            claims.push(Claim {
                name,
                said,
                is_told: false,
            });
            self.untold.insert(destination);
        }
    }

    /// What was said at a destination since then, sorted; it counts as told.
    pub(super) fn since(&mut self, destination: Destination, first: Timestamp) -> Vec<Name> {
        let Some(claims) = self.claims.get_mut(&destination) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for claim in claims {
            if claim.said >= first {
                claim.is_told = true;
                names.push(claim.name.clone());
            }
        }
        names.sort_unstable();
        names
    }

    /// Keeps a record, for names that come later.
    pub(in crate::aggregate) fn told(
        &mut self,
        destination: Destination,
        mut flow: Box<Flow>,
        origin: &Origin,
    ) {
        flow.names.clear();
        // A destination whose record is forgotten keeps what it says until there is another.
        let _forgotten = self.records.insert(destination, (flow, origin.clone()));
    }

    /// What no record has told although there was one. What there was none for waits.
    pub(in crate::aggregate) fn late(&mut self) -> Vec<Late> {
        let mut late = Vec::new();
        for destination in mem::take(&mut self.untold) {
            let Some(claims) = self.claims.get_mut(&destination) else {
                continue;
            };
            let is_untold = |claim: &&mut Claim| !claim.is_told;
            let untold: Vec<&mut Claim> = claims.iter_mut().filter(is_untold).collect();
            let Some(said) = untold.iter().map(|claim| claim.said).max() else {
                continue;
            };
            let Some((flow, origin)) = self.records.get_mut(&destination).cloned() else {
                self.untold.insert(destination);
                continue;
            };
            let mut claims = Vec::new();
            for claim in untold {
                claim.is_told = true;
                claims.push(claim.name.clone());
            }
            claims.sort_unstable();
            late.push(Late {
                destination,
                claims,
                said,
                flow,
                origin,
            });
        }
        late
    }

    /// Makes room for a destination.
    fn forget(&mut self, destination: Destination) {
        for (forgotten, claims) in self.claims.insert(destination, Vec::new()) {
            self.untold.remove(&forgotten);
            let untold = claims.iter().filter(|claim| !claim.is_told);
            self.refused += untold.count() as u64;
        }
    }
}
