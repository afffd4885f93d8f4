//! What an agent may use, and what of that it ever did.

use std::collections::BTreeSet;

use crate::record::Registered;

/// Names that are kept of each kind.
const MOST: usize = 8192;

/// Tools, models and retrievers of one workload, over all its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    pub tools: BTreeSet<String>,
    pub models: BTreeSet<String>,
    pub retrievers: BTreeSet<String>,
    /// Of which a call has begun.
    pub called: BTreeSet<String>,
}

impl Registry {
    /// Takes in one record. Of too many names the first in the alphabet stay, whatever the order.
    pub fn add(&mut self, names: &Registered) {
        let add = |known: &mut BTreeSet<String>, names: &[String]| {
            known.extend(names.iter().cloned());
            while known.len() > MOST {
                known.pop_last();
            }
        };
        add(&mut self.tools, &names.tools);
        add(&mut self.models, &names.models);
        add(&mut self.retrievers, &names.retrievers);
        add(&mut self.called, &names.called);
    }

    /// Takes in another.
    pub fn merge(&mut self, other: &Self) {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect();
        self.add(&Registered {
            tools: list(&other.tools),
            models: list(&other.models),
            retrievers: list(&other.retrievers),
            called: list(&other.called),
        });
    }

    /// Those of `registered` that were never called.
    pub fn never_called<'a>(
        &'a self,
        registered: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a String> {
        registered.difference(&self.called)
    }
}
