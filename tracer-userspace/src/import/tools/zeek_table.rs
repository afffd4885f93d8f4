//! Zeek's tables: lines of separated columns below a header that names them.
//!
//! The header is documented at <https://docs.zeek.org/en/master/log-formats.html>. Zeek writes a
//! separator inside a value as `\x09`, so that columns can be cut at it without quoting rules.

use csv::StringRecord;

use super::{Told, zeek::Row};

/// What the header has told so far. A file may hold several, one after the other.
#[derive(Debug)]
pub(in crate::import) struct Table {
    separator: u8,
    set_separator: String,
    empty: String,
    unset: String,
    columns: Option<StringRecord>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            separator: b'\t',
            set_separator: ",".to_owned(),
            empty: "(empty)".to_owned(),
            unset: "-".to_owned(),
            columns: None,
        }
    }
}

/// Whether a line begins the header of such a table.
pub(super) fn is_header(line: &[u8]) -> bool {
    line.starts_with(b"#separator ") || line.starts_with(b"#fields")
}

impl Table {
    /// Understands a line if it belongs to such a table.
    pub(in crate::import) fn parse(&mut self, line: &[u8]) -> Option<Result<Told, String>> {
        if line.starts_with(b"#") {
            return Some(self.header(line));
        }
        if self.columns.is_none() || line.starts_with(b"{") {
            return None;
        }
        Some(self.row(line))
    }

    fn header(&mut self, line: &[u8]) -> Result<Told, String> {
        if let Some(separator) = line.strip_prefix(b"#separator ") {
            *self = Self {
                separator: byte(separator).ok_or("the separator is not one byte")?,
                ..Self::default()
            };
            return Ok(Told::Nothing);
        }
        let mut words = line.split(|byte| *byte == self.separator);
        let key = words.next().unwrap_or_default();
        let values: StringRecord = words.map(String::from_utf8_lossy).collect();
        let first = values.get(0).unwrap_or_default();
        match key {
            b"#set_separator" => first.clone_into(&mut self.set_separator),
            b"#empty_field" => first.clone_into(&mut self.empty),
            b"#unset_field" => first.clone_into(&mut self.unset),
            b"#fields" => self.columns = Some(values),
            _comment => {}
        }
        Ok(Told::Nothing)
    }

    fn row(&self, line: &[u8]) -> Result<Told, String> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        let columns = self.columns.as_ref().ok_or("no #fields before this line")?;
        let values = text.split(char::from(self.separator));
        let values: StringRecord = values.map(|value| self.value(value)).collect();
        if values.len() != columns.len() {
            let (found, expected) = (values.len(), columns.len());
            return Err(format!("{found} columns where the header has {expected}"));
        }
        let row: Row = values
            .deserialize(Some(columns))
            .map_err(|error| reason(&error, columns))?;
        row.told()
    }

    /// What is unset or empty is so for the reader of columns too; lists get commas, and truth
    /// values their names.
    fn value(&self, value: &str) -> String {
        if value == self.unset || value == self.empty {
            return String::new();
        }
        match value {
            "T" => "true".to_owned(),
            "F" => "false".to_owned(),
            _other if self.set_separator == "," || self.set_separator.is_empty() => {
                value.to_owned()
            }
            _other => value.replace(&self.set_separator, ","),
        }
    }
}

/// `\x09`, or the byte itself.
fn byte(text: &[u8]) -> Option<u8> {
    match text {
        [b'\\', b'x', high, low] => {
            let digits = [*high, *low];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
        }
        [one] => Some(*one),
        _other => None,
    }
    .filter(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r'))
}

/// Which column, and what is wrong with it.
fn reason(error: &csv::Error, columns: &StringRecord) -> String {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
        return "not a row of the table".to_owned();
    };
    let column = err.field().and_then(|at| columns.get(at as usize));
    format!("{}: {}", column.unwrap_or("a column"), err.kind())
}
