//! Spans out of files, as exporters and collectors write them: OTLP as JSON, a request a line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    output::terminal,
    spans::{Decoded, book::Book, json},
};

/// A line of a file that has none would be all of it.
const LONGEST_LINE: u64 = 64 << 20;

/// Every span of the files.
///
/// # Errors
/// A file cannot be read, or one of its lines is something else.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Book> {
    let mut book = Book::default();
    let mut damaged = 0;
    for path in files {
        damaged += read_file(path, &mut book)?;
    }
    if damaged > 0 {
        terminal::tell(&format!(
            "{damaged} span(s) are left out: without a time, or too many on one line"
        ));
    }
    if book.given_way > 0 {
        let given_way = book.given_way;
        terminal::tell(&format!(
            "{given_way} span(s) more than fit: the earliest are left out"
        ));
    }
    if !files.is_empty() && book.is_empty() {
        terminal::tell("no span of a tool, a model or a retriever is in these files");
    }
    Ok(book)
}

/// How many of the file's spans could not be used.
fn read_file(path: &Path, book: &mut Book) -> anyhow::Result<u64> {
    let mut unused = 0;
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let length = (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {name}"))?;
        if length == 0 {
            break;
        }
        if length as u64 == LONGEST_LINE {
            bail!("{name}: line {number} is longer than {LONGEST_LINE} bytes");
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Decoded { spans, damaged, .. } =
            json::decode(&line).with_context(|| format!("{name}: line {number}"))?;
        unused += damaged;
        book.add(spans);
    }
    Ok(unused)
}
