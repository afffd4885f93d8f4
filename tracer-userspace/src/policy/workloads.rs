//! `Workloads`: the observations of many workloads, told apart by name, aliases followed.

use std::collections::BTreeMap;

use crate::{policy::observe::Observations, record::Record};

/// Observations by workload, under the names that the records carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workloads {
    max_destinations: usize,
    observed: BTreeMap<String, Observations>,
    /// From a provisional name to the one that replaced it.
    aliases: BTreeMap<String, String>,
}

impl Workloads {
    /// Nothing observed yet.
    #[must_use]
    pub fn new(max_destinations: usize) -> Self {
        Self {
            max_destinations,
            observed: BTreeMap::new(),
            aliases: BTreeMap::new(),
        }
    }

    /// Takes in one record of any workload.
    pub fn observe(&mut self, record: &Record) {
        let workload = workload_of(record);
        if let Record::Alias(entry) = record {
            self.alias(&entry.body.provisional, workload);
        }
        self.workload(workload).observe(record);
    }

    /// The observations under `name`, as the records carry it; empty ones if there are none yet.
    pub fn workload(&mut self, name: &str) -> &mut Observations {
        self.observed
            .entry(name.to_owned())
            .or_insert_with(|| Observations::new(name, self.max_destinations))
    }

    /// Every workload so far, under the names that the records carry.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Observations> {
        self.observed.values_mut()
    }

    /// Whether no record was taken in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observed.is_empty()
    }

    /// Counts in what was observed elsewhere.
    pub fn merge(&mut self, other: Self) {
        for (name, observations) in other.observed {
            match self.observed.get_mut(&name) {
                Some(known) => known.merge(&observations),
                None => {
                    let observations = observations.within(self.max_destinations);
                    self.observed.insert(name, observations);
                }
            }
        }
        for (provisional, workload) in &other.aliases {
            self.alias(provisional, workload);
        }
    }

    /// Observations by final name: what was recorded under a provisional name is joined in.
    #[must_use]
    pub fn resolve(&self) -> BTreeMap<String, Observations> {
        self.clone().into_resolved()
    }

    /// The same for who needs nothing else any more.
    #[must_use]
    pub fn into_resolved(mut self) -> BTreeMap<String, Observations> {
        let mut resolved: BTreeMap<String, Observations> = BTreeMap::new();
        for (name, observations) in std::mem::take(&mut self.observed) {
            let name = self.final_name(&name);
            match resolved.get_mut(name) {
                Some(known) => known.merge(&observations),
                None => {
                    resolved.insert(name.to_owned(), observations.renamed(name));
                }
            }
        }
        resolved
    }

    /// The name under which the records of `name` belong.
    #[must_use]
    pub fn final_name<'a>(&'a self, name: &'a str) -> &'a str {
        let mut passed = vec![name];
        let mut last = name;
        while let Some(next) = self.aliases.get(last) {
            if let Some(start) = passed.iter().position(|known| known == next) {
                // A circle has no final name: the lowest one stands for all of it.
                return passed[start..].iter().min().copied().unwrap_or(last);
            }
            passed.push(next);
            last = next;
        }
        last
    }

    /// Two logs that disagree are settled by name, so that their order does not matter.
    fn alias(&mut self, provisional: &str, workload: &str) {
        if provisional == workload {
            return;
        }
        match self.aliases.get_mut(provisional) {
            Some(known) if known.as_str() <= workload => {}
            Some(known) => workload.clone_into(known),
            None => {
                self.aliases
                    .insert(provisional.to_owned(), workload.to_owned());
            }
        }
    }
}

/// The workload that a record carries.
#[must_use]
pub fn workload_of(record: &Record) -> &str {
    match record {
        Record::Flow(entry) => &entry.workload,
        Record::Gap(entry) => &entry.workload,
        Record::Alias(entry) => &entry.workload,
        Record::Stats(entry) => &entry.workload,
        Record::Rotate(entry) => &entry.workload,
        Record::Start(entry) => &entry.workload,
        Record::Stop(entry) => &entry.workload,
        Record::Dns(entry) => &entry.workload,
        Record::Drift(entry) => &entry.workload,
        Record::Registered(entry) => &entry.workload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_aliases(pairs: &[(&str, &str)]) -> Workloads {
        let mut workloads = Workloads::new(10);
        for (provisional, workload) in pairs {
            workloads.alias(provisional, workload);
        }
        workloads
    }

    #[test]
    fn aliases_are_followed_to_the_end() {
        let workloads = with_aliases(&[("docker-1", "docker-2"), ("docker-2", "shop")]);
        assert_eq!(workloads.final_name("docker-1"), "shop");
        assert_eq!(workloads.final_name("other"), "other");
    }

    #[test]
    fn a_circle_of_aliases_ends() {
        let workloads = with_aliases(&[("x", "b"), ("b", "a"), ("a", "c"), ("c", "b")]);
        for name in ["x", "a", "b", "c"] {
            assert_eq!(workloads.final_name(name), "a");
        }
    }

    #[test]
    fn a_disagreement_is_settled_in_any_order() {
        let one = with_aliases(&[("p", "a"), ("p", "b")]);
        let other = with_aliases(&[("p", "b"), ("p", "a")]);
        assert_eq!(one, other);
    }
}
