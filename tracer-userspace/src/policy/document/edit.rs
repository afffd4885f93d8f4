//! Single changes to a policy that people keep: a decision, a new entry, an entry taken out.
//! Everything else stays as it is, byte for byte.

use std::collections::BTreeSet;

use jiff::civil::Date;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::policy::{
    decision::{Decision, Ruling},
    document::{DocumentError, layout, line_at, merge::like, parse},
    model::{Entry, Status},
};

/// `text` with `decision` in the entries of those numbers (from 0). `findings` are what each of
/// them is approved or denied in spite of, or because of.
pub fn decide(
    text: &str,
    chosen: &[(usize, Vec<String>)],
    decision: &Decision,
) -> Result<String, DocumentError> {
    edit(text, |document| {
        let Some(tables) = entries(document) else {
            return;
        };
        for (index, findings) in chosen {
            if let Some(table) = tables.get_mut(*index) {
                write_decision(table, decision, findings);
            }
        }
    })
}

/// `text` with how wide the published range of the entry of that number (from 0) may be, and the
/// list that says so.
pub fn set_width(
    text: &str,
    index: usize,
    list: &[String],
    at_most: u64,
) -> Result<String, DocumentError> {
    edit(text, |document| {
        if let Some(table) = entries(document).and_then(|tables| tables.get_mut(index)) {
            set_list(table, "list", list);
            set(
                table,
                "at_most",
                value(i64::try_from(at_most).unwrap_or(i64::MAX)),
            );
        }
    })
}

/// `text` with the executables for which the entry of that number (from 0) is.
pub fn set_processes(
    text: &str,
    index: usize,
    processes: &[String],
) -> Result<String, DocumentError> {
    edit(text, |document| {
        if let Some(table) = entries(document).and_then(|tables| tables.get_mut(index)) {
            set_list(table, "processes", processes);
        }
    })
}

/// `text` with a new entry at its end.
pub fn add(text: &str, entry: &Entry) -> Result<String, DocumentError> {
    edit(text, |document| {
        let comment = document.trailing().as_str().unwrap_or_default().to_owned();
        let mut table = layout::table(entry);
        if !comment.trim().is_empty() {
            // A comment at the file's end is about what stands before it.
            let before = format!("{}\n\n", comment.trim_end());
            table.decor_mut().set_prefix(before);
            document.set_trailing("");
        }
        match document.get_mut("allow") {
            Some(Item::ArrayOfTables(tables)) => tables.push(table),
            Some(_) | None => {
                let mut tables = ArrayOfTables::new();
                tables.push(table);
                document.insert("allow", Item::ArrayOfTables(tables));
            }
        }
    })
}

/// `text` without the entries of those numbers (from 0). Comments above an entry go with it.
pub fn remove(text: &str, gone: &BTreeSet<usize>) -> Result<String, DocumentError> {
    if gone.is_empty() {
        return Ok(text.to_owned());
    }
    edit(text, |document| {
        if let Some(tables) = entries(document) {
            for index in gone.iter().rev() {
                tables.remove(*index);
            }
        }
    })
}

/// The line in which each entry begins, counted from 1.
pub fn lines(text: &str) -> Result<Vec<usize>, DocumentError> {
    parse(text)?;
    let Ok(document) = toml_edit::Document::parse(text) else {
        return Ok(Vec::new());
    };
    let tables = document.get("allow").and_then(Item::as_array_of_tables);
    Ok(tables.map_or_else(Vec::new, |tables| {
        tables
            .iter()
            .map(|table| line_at(text, table.span()))
            .collect()
    }))
}

fn edit(text: &str, change: impl FnOnce(&mut DocumentMut)) -> Result<String, DocumentError> {
    parse(text)?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document: DocumentMut = body.parse().map_err(|error: toml_edit::TomlError| {
        // parse() has read the same text just now.
        DocumentError {
            line: 1,
            message: error.message().to_owned(),
        }
    })?;
    change(&mut document);
    Ok(like(text, document.to_string()))
}

fn entries(document: &mut DocumentMut) -> Option<&mut ArrayOfTables> {
    document
        .get_mut("allow")
        .and_then(Item::as_array_of_tables_mut)
}

fn write_decision(table: &mut Table, decision: &Decision, findings: &[String]) {
    let status = match decision.ruling {
        Ruling::Approve => Status::Approved,
        Ruling::Deny => Status::Denied,
    };
    // What was found stands last, as in a fresh entry.
    let held = table.remove_entry("findings");
    set(table, "status", layout::text(status.word()));
    set(table, "reason", layout::text(&decision.reason));
    set(table, "owner", layout::text(&decision.owner));
    match decision.ruling {
        Ruling::Approve => set(table, "approved", date(decision.on)),
        Ruling::Deny => {
            table.remove("approved");
        }
    }
    match decision.expires {
        Some(day) => set(table, "expires", date(day)),
        None => {
            table.remove("expires");
        }
    }
    if let Some(reference) = &decision.reference {
        set(table, "reference", layout::text(reference));
    }
    if let Some((key, item)) = held {
        table.insert_formatted(&key, item);
    }
    set_list(table, "findings", findings);
    let acknowledged = match decision.ruling {
        Ruling::Approve => decision.acknowledged_of(findings),
        Ruling::Deny => Vec::new(),
    };
    set_list(table, "acknowledged", &acknowledged);
}

/// Sets a key where it stands, with the comment behind it, or at the end.
fn set(table: &mut Table, key: &str, mut item: Item) {
    if let (Some(old), Some(new)) = (table.get(key).and_then(Item::as_value), item.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    match table.get_mut(key) {
        Some(place) => *place = item,
        None => {
            table.insert(key, item);
        }
    }
}

/// Sets a list; one that says the same already keeps its layout, and an empty one is left out.
fn set_list(table: &mut Table, key: &str, texts: &[String]) {
    let known = table.get(key).and_then(Item::as_array);
    let is_same = known.is_some_and(|known| {
        known.len() == texts.len()
            && known
                .iter()
                .zip(texts)
                .all(|(old, new)| old.as_str() == Some(new))
    });
    if is_same {
        return;
    }
    if texts.is_empty() {
        table.remove(key);
    } else {
        set(table, key, layout::list(texts));
    }
}

fn date(day: Date) -> Item {
    let (Ok(year), Ok(month), Ok(day_of_month)) = (
        u16::try_from(day.year()),
        u8::try_from(day.month()),
        u8::try_from(day.day()),
    ) else {
        // Before the year 0: no policy was.
        return layout::text(&day.to_string());
    };
    value(toml_edit::Datetime {
        date: Some(toml_edit::Date {
            year,
            month,
            day: day_of_month,
        }),
        time: None,
        offset: None,
    })
}
