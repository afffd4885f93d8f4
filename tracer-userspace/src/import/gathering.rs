//! Names first: files whose lines name what other lines or files tell of are read for their names
//! before anything is counted, so that the order of files does not show in the result.
//!
//! A stream can be read but once: there, a line knows the names of lines before it, which is how tools
//! write them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::Path,
};

use crate::import::{
    ImportError, Input,
    content::{self, Content},
    line::{self, Parsed},
    lines,
    tools::{self, Table, Told, names::Names},
};

/// How far a file is looked into.
const HEAD: u64 = 64 * 1024;

/// Every name in `inputs`, and the inputs that were read for them.
pub(super) fn gather(inputs: &[Input]) -> Result<(Names, BTreeSet<Input>), ImportError> {
    let mut names = Names::default();
    let mut gathered = BTreeSet::new();
    for input in inputs {
        let Input::File(path) = input else {
            continue;
        };
        let read = read(path, &mut names).map_err(|error| ImportError::Unreadable {
            path: input.name(),
            error,
        })?;
        if read {
            gathered.insert(input.clone());
        }
    }
    Ok((names, gathered))
}

/// False if the file is not worth reading for its names.
fn read(path: &Path, names: &mut Names) -> io::Result<bool> {
    // A pipe can be read but once.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    if !has_names(&head(path)?) {
        return Ok(false);
    }
    let Ok(Content::Lines(reader)) = content::recognise(File::open(path)?) else {
        return Ok(false);
    };
    let mut table = Table::default();
    // What is wrong with a line is told when lines are counted.
    lines::each(reader, |line| {
        if let lines::Content::Text(text) = line.content
            && let Some(told) = told(text, &mut table)
        {
            names.note(&told);
        }
        ControlFlow::Continue(())
    });
    Ok(true)
}

fn told(line: &[u8], table: &mut Table) -> Option<Told> {
    if let Some(told) = table.parse(line) {
        return told.ok();
    }
    match line::parse(line).ok()? {
        Parsed::Told(told) => Some(told),
        Parsed::Record(_) | Parsed::Destination(_) | Parsed::UnknownType => None,
    }
}

/// The first lines of a file that holds lines, unpacked; nothing of what cannot be read.
pub(super) fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    if let Ok(Content::Lines(reader)) = content::recognise(File::open(path)?) {
        // An archive that is broken further on is worth its beginning.
        let _ = reader.take(HEAD).read_to_end(&mut head);
    }
    Ok(head)
}

/// Whether lines like the first one name what others tell of.
fn has_names(head: &[u8]) -> bool {
    // Zeek's connections have no names of their own.
    if has(head, b"#path\tconn") {
        return false;
    }
    let first = first_line(head);
    tools::tool(&first).is_some_and(tools::Tool::has_names) && !has(&first, b"\"conn_state\"")
}

/// Whether the first line is one of a log that can be read.
pub(super) fn is_known(head: &[u8]) -> bool {
    let first = first_line(head);
    tools::tool(&first).is_some() || line::parse(&first).is_ok()
}

fn first_line(head: &[u8]) -> Vec<u8> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let lines = BufReader::new(head).split(b'\n').map_while(Result::ok);
    let mut told = lines.filter(|line| !line.trim_ascii().is_empty());
    told.next().unwrap_or_default()
}

fn has(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}
