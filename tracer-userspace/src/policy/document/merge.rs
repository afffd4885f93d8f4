//! Merging candidates into a policy that people have edited: comments, order and every decision
//! stay, and only news is added.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::{
    policy::{
        document::{DocumentError, layout, parse},
        model::{Entry, Policy, SCHEMA, Service, Status, Target},
        translation::{Left, Translation},
    },
    ranges::Ranges,
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
    merge(&format!("{HEADER}{document}"), found, &Ranges::default())
}

/// `text` with those candidates in `found` that it does not decide on or propose already; the very
/// same bytes if there are none.
///
/// `ranges` says what the published ranges in it stand for.
pub fn merge(text: &str, found: &[Entry], ranges: &Ranges) -> Result<String, DocumentError> {
    let mut policy = parse(text)?;
    policy.look_up(ranges);
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
    /// News for candidates that stand already.
    gains: BTreeMap<usize, News>,
    /// New tables that stand directly after the entry of that number: the rest of what was seen
    /// of the same destination.
    beside: BTreeMap<usize, Vec<Table>>,
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
            let is_same = |index: &&usize| {
                let known = &policy.entries[**index];
                is_open(known) && known.tools == entry.tools
            };
            let candidate = same.iter().find(is_same);
            if let Some(&index) = candidate {
                let news = news.for_candidate(&policy.entries[index]);
                plan.gains.insert(index, news);
                continue;
            }
            let table = layout::table(&news.into_candidate(entry));
            if let Some(&last) = same.last() {
                plan.beside.entry(last).or_default().push(table);
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
            if let Some(news) = self.gains.remove(&index) {
                news.add_to(&mut table);
            }
            tables.push(table);
            last.extend(self.beside.remove(&index).into_iter().flatten());
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

/// The existing entries, ready to be asked what they say about a destination. Entries for tools say
/// nothing about traffic in general, and entries for any tool something about each.
struct Known<'p> {
    by_target: BTreeMap<&'p Target, Vec<usize>>,
    entries: &'p [Entry],
    /// Networks and wildcards.
    wide: Vec<&'p Entry>,
}

impl<'p> Known<'p> {
    fn new(entries: &'p [Entry]) -> Self {
        let mut by_target: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            by_target.entry(&entry.to).or_default().push(index);
        }
        let is_wide = |entry: &&Entry| match entry.to {
            Target::Network(_) | Target::Published(_) | Target::Wildcard(_) => true,
            Target::Address(_) | Target::Name(_) => false,
        };
        let wide = entries.iter().filter(is_wide).collect();
        Self {
            by_target,
            entries,
            wide,
        }
    }

    /// What no existing entry decides on or proposes: services of `entry`, and places to which
    /// they were rewritten.
    fn news(&self, entry: &Entry) -> News {
        let same = self.by_target.get(&entry.to).into_iter().flatten();
        let around = self.wide.iter().filter(|known| known.to.covers(&entry.to));
        let known: Vec<&Entry> = same
            .map(|&index| &self.entries[index])
            .chain(around.copied())
            .filter(|known| known.is_for_all_of(entry))
            .collect();
        News::of(entry, &known)
    }
}

/// A candidate for what of `entry` none of `known` speaks of, all of them about its destination.
pub(in crate::policy) fn rest(entry: &Entry, known: &[&Entry]) -> Option<Entry> {
    let news = News::of(entry, known);
    (!news.is_empty()).then(|| Entry {
        // Who was seen, for whoever compares it next.
        processes: entry.processes.clone(),
        ..news.into_candidate(entry)
    })
}

/// Which of the places that were seen for `service` no entry speaks of. A denial speaks of all:
/// it holds wherever the packets go.
fn unsaid(known: &[&Entry], service: &Service, seen: Vec<Left>) -> Vec<Left> {
    let mut said = Vec::new();
    for entry in known {
        for port in entry.ports.iter().filter(|port| port.covers(service)) {
            if entry.status == Status::Denied {
                return Vec::new();
            }
            said.extend(entry.left(port));
        }
    }
    seen.into_iter()
        .filter(|left| !left.is_among(&said))
        .collect()
}

/// Who of those that were `seen` no entry speaks of. One without `processes` speaks of all, and so
/// does a denial.
fn unnamed(known: &[&Entry], service: &Service, seen: &[String]) -> Vec<String> {
    let mut named = BTreeSet::new();
    let covers = |entry: &&&Entry| entry.ports.iter().any(|port| port.covers(service));
    for entry in known.iter().filter(covers) {
        match &entry.processes {
            Some(processes) if entry.status != Status::Denied => named.extend(processes),
            Some(_) | None => return Vec::new(),
        }
    }
    let is_new = |process: &&String| !named.contains(process);
    seen.iter().filter(is_new).cloned().collect()
}

/// What is new of one destination.
#[derive(Debug, Default)]
struct News {
    ports: Vec<Service>,
    translated: Vec<Translation>,
    /// The ports of which nothing is new but who asked for them.
    by_others: BTreeSet<Service>,
    /// Something is new whoever it was.
    is_wide: bool,
    /// Executables that what is known does not speak of; absent if there is other news.
    processes: Option<Vec<String>>,
    /// Everyone who was seen.
    seen: Vec<String>,
    /// What it is there for.
    roles: Vec<String>,
}

impl News {
    fn of(entry: &Entry, known: &[&Entry]) -> Self {
        let mut news = Self {
            seen: entry.processes.clone().unwrap_or_default(),
            roles: entry.roles.clone(),
            ..Self::default()
        };
        let mut others = BTreeSet::new();
        for service in &entry.ports {
            let left = unsaid(known, service, entry.left(service));
            let by = unnamed(known, service, &news.seen);
            if left.is_empty() && !by.is_empty() {
                others.extend(by);
                news.by_others.insert(service.clone());
                news.ports.push(service.clone());
            } else if !left.is_empty() {
                news.is_wide = true;
                news.add(service, left);
            }
        }
        let others: Vec<String> = others.into_iter().collect();
        news.processes = (!news.is_wide && !others.is_empty()).then_some(others);
        news
    }

    /// For the destination and the tools of `entry`.
    fn into_candidate(self, entry: &Entry) -> Entry {
        Entry {
            translated: self.translated,
            tools: entry.tools.clone(),
            processes: self.processes,
            roles: self.roles,
            ..Entry::candidate(entry.to.clone(), self.ports)
        }
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn add(&mut self, service: &Service, left: Vec<Left>) {
        if left.is_empty() {
            return;
        }
        self.ports.push(service.clone());
        // Without a translation, a port leaves as asked.
        if left != [Left::AsAsked] {
            let translation = |left| Translation {
                service: service.clone(),
                left,
            };
            self.translated.extend(left.into_iter().map(translation));
        }
    }

    /// The same for an entry that may have some of the ports already, which said without words
    /// that they leave as asked.
    fn for_candidate(mut self, entry: &Entry) -> Self {
        let (known, new): (Vec<Service>, Vec<Service>) = std::mem::take(&mut self.ports)
            .into_iter()
            .partition(|service| entry.ports.contains(service));
        let known = known.into_iter();
        for service in known.filter(|service| !self.by_others.contains(service)) {
            if entry.left(&service) == [Left::AsAsked] || !self.translates(&service) {
                self.translated.push(Translation {
                    service,
                    left: Left::AsAsked,
                });
            }
        }
        self.translated.sort_unstable();
        self.translated
            .retain(|new| !entry.translated.contains(new));
        self.ports = new;
        self
    }

    fn translates(&self, service: &Service) -> bool {
        self.translated.iter().any(|new| new.service == *service)
    }

    fn add_to(&self, table: &mut Table) {
        for service in &self.ports {
            layout::gain(table, service);
        }
        for translation in &self.translated {
            layout::insert_translation(table, translation);
        }
        layout::gain_processes(table, self.processes.as_ref().unwrap_or(&self.seen));
        layout::gain_roles(table, &self.roles);
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
