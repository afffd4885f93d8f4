//! The fields of a table of TOML, read strictly: errors name the line and say what to write.

use std::ops::Range;

use jiff::civil::Date;
use toml_edit::{Item, Table, Value};

use super::DocumentError;

pub(crate) type Outcome<T> = Result<T, DocumentError>;

/// Knows the text, so that errors can name its lines.
pub(crate) struct Fields<'t> {
    text: &'t str,
}

/// The line in which a span begins, counted from 1.
pub(crate) fn line_at(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    1 + text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

impl<'t> Fields<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text }
    }

    pub(crate) fn number(&self, table: &Table, key: &str) -> Outcome<Option<u64>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let number = item
            .as_integer()
            .and_then(|number| u64::try_from(number).ok());
        let wrong = || self.error(item.span(), format!("{key} must be a number, not below 0"));
        number.map(Some).ok_or_else(wrong)
    }

    pub(crate) fn date(&self, table: &Table, key: &str) -> Outcome<Option<Date>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let wrong = || {
            let message = format!("{key} must be a date without quotes, such as 2027-02-20");
            self.error(span_of(table, key), message)
        };
        let written = item.as_datetime().ok_or_else(wrong)?;
        let date = match (written.date, written.time, written.offset) {
            (Some(date), None, None) => date,
            (_, _, _) => return Err(wrong()),
        };
        let (month, day) = (i8::try_from(date.month), i8::try_from(date.day));
        let (Ok(year), Ok(month), Ok(day)) = (i16::try_from(date.year), month, day) else {
            return Err(wrong());
        };
        Date::new(year, month, day).map(Some).map_err(|_| wrong())
    }

    pub(crate) fn required(&self, table: &Table, key: &str, example: &str) -> Outcome<String> {
        let missing = || {
            self.error(
                table.span(),
                format!("{key} is missing; write {key} = {example}"),
            )
        };
        self.string(table, key)?.ok_or_else(missing)
    }

    pub(crate) fn string(&self, table: &Table, key: &str) -> Outcome<Option<String>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        match item.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.error(item.span(), format!("{key} must be a text in quotes"))),
        }
    }

    pub(crate) fn strings(&self, table: &Table, key: &str) -> Outcome<Option<Vec<String>>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let wrong = || {
            self.error(
                item.span(),
                format!("{key} must be a list of texts in quotes"),
            )
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
        let list = item.as_array().ok_or_else(wrong)?;
        list.iter().map(text).collect::<Outcome<_>>().map(Some)
    }

    pub(crate) fn known_keys(&self, table: &Table, known: &[&str]) -> Outcome<()> {
        let Some((key, item)) = table.iter().find(|(key, _)| !known.contains(key)) else {
            return Ok(());
        };
        let span = table
            .key(key)
            .and_then(toml_edit::Key::span)
            .or(item.span());
        let message = format!(
            "{key:?} is not a key that is known; the keys here are {}",
            known.join(", ")
        );
        Err(self.error(span, message))
    }

    pub(crate) fn error(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> DocumentError {
        DocumentError {
            line: line_at(self.text, span),
            message: message.into(),
        }
    }
}

pub(crate) fn span_of(table: &Table, key: &str) -> Option<Range<usize>> {
    table.get(key).and_then(Item::span)
}
