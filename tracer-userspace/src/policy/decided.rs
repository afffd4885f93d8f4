//! `Decided`: what people have decided on already, by address or by name, so that the other way of
//! writing it is not proposed to them again.

use std::collections::BTreeMap;

use crate::policy::{
    believed::Believed,
    model::{Entry, Service, Status, Target},
    observe::Destination,
    translation::Left,
};

/// The decisions of a policy and its bases about traffic in general.
#[derive(Clone, Debug, Default)]
pub struct Decided<'p> {
    exact: BTreeMap<&'p Target, Vec<&'p Entry>>,
    /// Networks and wildcards.
    wide: Vec<&'p Entry>,
    /// Where entries are for certain tools, decided on or not.
    by_tool: Vec<&'p Target>,
}

impl<'p> Decided<'p> {
    /// Those of `entries` that somebody has decided on for any tool, and where others name tools.
    pub fn of(entries: impl IntoIterator<Item = &'p Entry>) -> Self {
        let mut decided = Self::default();
        for entry in entries {
            match entry.to {
                _ if entry.tools.is_some() => decided.by_tool.push(&entry.to),
                _ if entry.status == Status::Candidate => {}
                Target::Address(_) | Target::Name(_) => {
                    decided.exact.entry(&entry.to).or_default().push(entry);
                }
                Target::Network(_) | Target::Published(_) | Target::Wildcard(_) => {
                    decided.wide.push(entry);
                }
            }
        }
        decided
    }

    /// Whether the destination is decided on by its address or a network around it.
    #[must_use]
    pub fn on_address(&self, destination: &Destination) -> bool {
        self.covers(&Target::Address(destination.ip), &destination.service)
    }

    /// Whether all of the names are decided on.
    #[must_use]
    pub fn on_names(&self, names: &Believed, service: &Service) -> bool {
        let name = |name: &str| Target::Name(name.to_owned());
        names.iter().all(|each| self.covers(&name(each), service))
    }

    /// Whether an entry about `to` is for certain tools.
    #[must_use]
    pub fn names_tools(&self, to: &Target) -> bool {
        self.by_tool.iter().any(|known| known.covers(to))
    }

    fn covers(&self, to: &Target, service: &Service) -> bool {
        let exact = self.exact.get(to).into_iter().flatten();
        let wide = self.wide.iter().filter(|entry| entry.to.covers(to));
        exact.chain(wide).any(|entry| {
            let mut ports = entry.ports.iter().filter(|port| port.covers(service));
            // An approval of what is rewritten says nothing about what is not.
            ports.any(|port| {
                entry.status == Status::Denied || entry.left(port).contains(&Left::AsAsked)
            })
        })
    }
}
