//! Merging candidates into a policy that people have edited: comments, order and every decision
//! stay, and only news is added.

use std::collections::BTreeMap;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::policy::{
    document::{DocumentError, layout, parse},
    model::{Entry, Policy, SCHEMA, Service, Status, Target},
};

/// How a fresh policy opens.
const HEADER: &str = "\
# What this workload may reach. Observed is not yet acceptable: every candidate waits for a person.
#
# To decide, set status to \"approved\" or \"denied\". An approval also needs reason, owner,
# approved and expires; without them nothing is enforced. The figures behind each entry are in the
# evidence file beside this one. Regenerating keeps comments, order and every decision.

";

/// A policy of nothing but candidates.
pub fn fresh(workload: &str, found: &[Entry]) -> Result<String, DocumentError> {
    let mut document = DocumentMut::new();
    document.insert("schema", value(SCHEMA));
    document.insert("workload", layout::text(workload));
    merge(&format!("{HEADER}{document}"), found)
}

/// `text` with those candidates in `found` that it does not decide on or propose already; the very
/// same bytes if there are none.
pub fn merge(text: &str, found: &[Entry]) -> Result<String, DocumentError> {
    let policy = parse(text)?;
    let plan = Plan::new(&policy, found);
    if plan.is_empty() {
        return Ok(text.to_owned());
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document: DocumentMut = body.parse().map_err(|error: toml_edit::TomlError| {
        // parse() has read the same text just now.
        DocumentError {
            line: 1,
            message: error.message().to_owned(),
        }
    })?;
    plan.apply(&mut document);
    Ok(like(text, document.to_string()))
}

/// `merged` with the line ends and the byte order mark of `original`, which toml_edit drops.
pub(super) fn like(original: &str, merged: String) -> String {
    let merged = if original.contains("\r\n") {
        merged.replace('\n', "\r\n")
    } else {
        merged
    };
    if original.starts_with('\u{feff}') {
        format!("\u{feff}{merged}")
    } else {
        merged
    }
}

/// What is to be added where; numbers are those of the existing entries.
#[derive(Debug, Default)]
struct Plan {
    /// Ports for candidates that stand already.
    gains: BTreeMap<usize, Vec<Service>>,
    /// New tables that stand directly after the entry of that number: the rest of what was seen
    /// of the same destination.
    beside: BTreeMap<usize, Table>,
    /// New tables that stand before the entry of that number, or at the end.
    before: BTreeMap<usize, Vec<Table>>,
}

impl Plan {
    fn new(policy: &Policy, found: &[Entry]) -> Self {
        let mut plan = Self::default();
        let known = Known::new(&policy.entries);
        let tail = unreviewed_tail(&policy.entries);
        for entry in found {
            let news = known.news(entry);
            if news.is_empty() {
                continue;
            }
            let same: &[usize] = known.by_target.get(&entry.to).map_or(&[], Vec::as_slice);
            let candidate = same.iter().find(|&&index| is_open(&policy.entries[index]));
            if let Some(&index) = candidate {
                plan.gains.insert(index, news);
                continue;
            }
            let table = layout::table(&Entry::candidate(entry.to.clone(), news));
            if let Some(&last) = same.last() {
                plan.beside.insert(last, table);
            } else {
                let place = tail + sorted_place(&policy.entries[tail..], &entry.to);
                plan.before.entry(place).or_default().push(table);
            }
        }
        plan
    }

    fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.beside.is_empty() && self.before.is_empty()
    }

    fn apply(mut self, document: &mut DocumentMut) {
        let existing = match document.get_mut("allow") {
            Some(Item::ArrayOfTables(tables)) => std::mem::take(tables),
            Some(_) | None => ArrayOfTables::new(),
        };
        let count = existing.len();
        let mut tables = ArrayOfTables::new();
        let mut last = Vec::new();
        for (index, mut table) in existing.into_iter().enumerate() {
            let before = self.before.remove(&index).into_iter().flatten();
            last.extend(before);
            last.drain(..).for_each(|new| tables.push(new));
            for service in self.gains.remove(&index).into_iter().flatten() {
                layout::gain(&mut table, &service);
            }
            tables.push(table);
            last.extend(self.beside.remove(&index));
        }
        last.extend(self.before.remove(&count).into_iter().flatten());
        keep_final_comment(document, last.first_mut());
        last.into_iter().for_each(|new| tables.push(new));
        document.insert("allow", Item::ArrayOfTables(tables));
    }
}

/// A comment at the file's end is about what stands before it, so new tables go after it.
fn keep_final_comment(document: &mut DocumentMut, first_new: Option<&mut Table>) {
    let comment = document.trailing().as_str().unwrap_or_default().to_owned();
    let Some(table) = first_new.filter(|_| !comment.trim().is_empty()) else {
        return;
    };
    table
        .decor_mut()
        .set_prefix(format!("{}\n\n", comment.trim_end()));
    document.set_trailing("");
}

/// The existing entries, ready to be asked what they say about a destination. Entries for tools
/// have an identity of their own and say nothing about traffic in general.
struct Known<'p> {
    by_target: BTreeMap<&'p Target, Vec<usize>>,
    entries: &'p [Entry],
    networks: Vec<&'p Entry>,
}

impl<'p> Known<'p> {
    fn new(entries: &'p [Entry]) -> Self {
        let general = || {
            entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.tools.is_none())
        };
        let mut by_target: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
        for (index, entry) in general() {
            by_target.entry(&entry.to).or_default().push(index);
        }
        let is_network = |entry: &&Entry| matches!(entry.to, Target::Network(_));
        let networks = general()
            .map(|(_, entry)| entry)
            .filter(is_network)
            .collect();
        Self {
            by_target,
            entries,
            networks,
        }
    }

    /// The services of `entry` that no existing entry decides on or proposes.
    fn news(&self, entry: &Entry) -> Vec<Service> {
        let same = self.by_target.get(&entry.to).into_iter().flatten();
        let around = self
            .networks
            .iter()
            .filter(|known| known.to.covers(&entry.to));
        let known: Vec<&Entry> = same
            .map(|&index| &self.entries[index])
            .chain(around.copied())
            .collect();
        let is_known = |service: &Service| {
            known
                .iter()
                .any(|entry| entry.ports.iter().any(|port| port.covers(service)))
        };
        entry
            .ports
            .iter()
            .filter(|service| !is_known(service))
            .cloned()
            .collect()
    }
}

fn is_open(entry: &Entry) -> bool {
    entry.status == Status::Candidate
}

/// Where the candidates begin that end the file. One that stands beside a decision about the same
/// destination belongs to that, not to them.
fn unreviewed_tail(entries: &[Entry]) -> usize {
    let tail = entries
        .iter()
        .rposition(|entry| !is_open(entry))
        .map_or(0, |index| index + 1);
    let Some(decided) = tail.checked_sub(1) else {
        return tail;
    };
    let beside = entries[tail..]
        .iter()
        .take_while(|entry| entry.to == entries[decided].to);
    tail + beside.count()
}

/// Where `to` sorts in.
fn sorted_place(tail: &[Entry], to: &Target) -> usize {
    tail.iter()
        .position(|entry| entry.to > *to)
        .unwrap_or(tail.len())
}
