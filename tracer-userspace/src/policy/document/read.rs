//! Reading `policy.toml`, strictly: a mistyped key must never make an approval wider or longer.

use std::ops::Range;

use ipnet::IpNet;
use jiff::civil::Date;
use toml_edit::{Document, Item, Table, Value};

use crate::policy::{
    document::DocumentError,
    model::{Entry, Policy, SCHEMA, Service, Status, Target},
    translation::Translation,
};

pub(in crate::policy) const POLICY_KEYS: [&str; 4] = ["schema", "workload", "include", "allow"];
pub(in crate::policy) const ENTRY_KEYS: [&str; 14] = [
    "to",
    "ports",
    "translated",
    "tools",
    "status",
    "reason",
    "owner",
    "approved",
    "expires",
    "reference",
    "list",
    "at_most",
    "findings",
    "acknowledged",
];

/// What `text` says.
pub fn parse(text: &str) -> Result<Policy, DocumentError> {
    let document = Document::parse(text).map_err(|error| DocumentError {
        line: line_at(text, error.span()),
        message: format!("not TOML: {}", error.message().replace('\n', ", ")),
    })?;
    Reader { text }.policy(document.as_table())
}

/// The line in which a span begins, counted from 1.
pub(super) fn line_at(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    1 + text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Knows the text, so that errors can name its lines.
struct Reader<'t> {
    text: &'t str,
}

type Outcome<T> = Result<T, DocumentError>;

impl Reader<'_> {
    fn policy(&self, root: &Table) -> Outcome<Policy> {
        self.known_keys(root, &POLICY_KEYS)?;
        self.schema(root)?;
        let workload = self.required(root, "workload", "\"NAME\"")?;
        let include = self.strings(root, "include")?.unwrap_or_default();
        let entries = match root.get("allow") {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => tables
                .iter()
                .map(|table| self.entry(table))
                .collect::<Outcome<_>>()?,
            Some(item) => {
                let advice = "allow must be a list of tables: write each entry under [[allow]]";
                return Err(self.error(item.span(), advice));
            }
        };
        Ok(Policy {
            workload,
            include,
            entries,
        })
    }

    fn schema(&self, root: &Table) -> Outcome<()> {
        let schema = self.required(root, "schema", &format!("{SCHEMA:?}"))?;
        if schema == SCHEMA {
            return Ok(());
        }
        let message =
            format!("schema {schema:?} is not known to this version; it reads {SCHEMA:?}");
        Err(self.error(span_of(root, "schema"), message))
    }

    fn entry(&self, table: &Table) -> Outcome<Entry> {
        self.known_keys(table, &ENTRY_KEYS)?;
        let entry = Entry {
            to: self.target(table)?,
            ports: self.ports(table)?,
            translated: self.translated(table)?,
            tools: self.tools(table)?,
            status: self.status(table)?,
            reason: self.string(table, "reason")?,
            owner: self.string(table, "owner")?,
            approved: self.date(table, "approved")?,
            expires: self.date(table, "expires")?,
            reference: self.string(table, "reference")?,
            list: self.strings(table, "list")?.unwrap_or_default(),
            at_most: self.number(table, "at_most")?,
            findings: self.strings(table, "findings")?.unwrap_or_default(),
            acknowledged: self.strings(table, "acknowledged")?.unwrap_or_default(),
        };
        self.approval(table, &entry)?;
        self.translates_ports(table, &entry)?;
        self.published(table, &entry)?;
        Ok(entry)
    }

    /// What says how wide a published range may be belongs to one, and an approval of one needs it.
    fn published(&self, table: &Table, entry: &Entry) -> Outcome<()> {
        let is_range = matches!(entry.to, Target::Published(_));
        let stray = ["list", "at_most"].into_iter();
        if let Some(key) = stray.filter(|key| table.contains_key(key)).next()
            && !is_range
        {
            let message = format!("{key} is for published ranges such as aws:S3:us-east-1");
            return Err(self.error(span_of(table, key), message));
        }
        let is_whole = !entry.list.is_empty() && entry.at_most.is_some();
        if is_range && entry.status == Status::Approved && !is_whole {
            let message = format!(
                "{} is approved without list and at_most, which say how wide it may be; \
                 `policy approve` writes them",
                entry.to
            );
            return Err(self.error(table.span(), message));
        }
        Ok(())
    }

    fn number(&self, table: &Table, key: &str) -> Outcome<Option<u64>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let number = item
            .as_integer()
            .and_then(|number| u64::try_from(number).ok());
        let wrong = || self.error(item.span(), format!("{key} must be a number, not below 0"));
        number.map(Some).ok_or_else(wrong)
    }

    fn translated(&self, table: &Table) -> Outcome<Vec<Translation>> {
        let texts = self.strings(table, "translated")?.unwrap_or_default();
        let mut all = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Translation>, _>>()
            .map_err(|error| self.error(span_of(table, "translated"), error.to_string()))?;
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// A translation of what is not asked for would open something that no port speaks of.
    fn translates_ports(&self, table: &Table, entry: &Entry) -> Outcome<()> {
        let stray = entry
            .translated
            .iter()
            .find(|translation| !entry.ports.contains(&translation.service));
        match stray {
            None => Ok(()),
            Some(Translation { service, .. }) => {
                let message = format!("translated speaks of {service}, which ports does not");
                Err(self.error(span_of(table, "translated"), message))
            }
        }
    }

    fn target(&self, table: &Table) -> Outcome<Target> {
        let text = self.required(
            table,
            "to",
            "an address, a network, a published range or a host name",
        )?;
        let span = || span_of(table, "to");
        let target: Target = text
            .parse()
            .map_err(|error| self.error(span(), format!("to = {error}")))?;
        // 10.1.2.3/8 is more often a slip than a wish for all of 10.0.0.0/8.
        if let Ok(network) = text.parse::<IpNet>()
            && network.trunc() != network
        {
            let whole = network.trunc();
            let message = format!(
                "to = {text:?} sets address bits beyond its prefix; write {whole:?} for the \
                 network, or the address alone",
                whole = whole.to_string()
            );
            return Err(self.error(span(), message));
        }
        Ok(target)
    }

    fn ports(&self, table: &Table) -> Outcome<Vec<Service>> {
        let example = "ports = [\"443/tcp\"]";
        let Some(texts) = self.strings(table, "ports")? else {
            return Err(self.error(
                table.span(),
                format!("the entry has no ports; write {example}"),
            ));
        };
        if texts.is_empty() {
            let message = format!("ports is empty; write {example}");
            return Err(self.error(span_of(table, "ports"), message));
        }
        let mut ports = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Service>, _>>()
            .map_err(|error| self.error(span_of(table, "ports"), error.to_string()))?;
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    fn tools(&self, table: &Table) -> Outcome<Option<Vec<String>>> {
        let tools = self.strings(table, "tools")?;
        if tools.as_ref().is_some_and(Vec::is_empty) {
            let message = "tools is empty; name a tool, or leave the key out for any";
            return Err(self.error(span_of(table, "tools"), message));
        }
        Ok(tools)
    }

    fn status(&self, table: &Table) -> Outcome<Status> {
        let choices = "\"candidate\", \"approved\" or \"denied\"";
        let text = self.required(table, "status", choices)?;
        match text.as_str() {
            "candidate" => Ok(Status::Candidate),
            "approved" => Ok(Status::Approved),
            "denied" => Ok(Status::Denied),
            _ => {
                let message = format!("status {text:?} is not known; write {choices}");
                Err(self.error(span_of(table, "status"), message))
            }
        }
    }

    /// Nothing is enforced until someone gives a reason, and every approval ends.
    fn approval(&self, table: &Table, entry: &Entry) -> Outcome<()> {
        let given =
            |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let missing = match entry.status {
            Status::Candidate | Status::Denied => return Ok(()),
            Status::Approved if !given(&entry.reason) => "reason",
            Status::Approved if !given(&entry.owner) => "owner",
            Status::Approved if entry.expires.is_none() => "expires",
            Status::Approved => return Ok(()),
        };
        let message = format!("{} is approved without {missing}; add the key", entry.to);
        Err(self.error(table.span(), message))
    }

    fn date(&self, table: &Table, key: &str) -> Outcome<Option<Date>> {
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

    fn required(&self, table: &Table, key: &str, example: &str) -> Outcome<String> {
        let missing = || {
            self.error(
                table.span(),
                format!("{key} is missing; write {key} = {example}"),
            )
        };
        self.string(table, key)?.ok_or_else(missing)
    }

    fn string(&self, table: &Table, key: &str) -> Outcome<Option<String>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        match item.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.error(item.span(), format!("{key} must be a text in quotes"))),
        }
    }

    fn strings(&self, table: &Table, key: &str) -> Outcome<Option<Vec<String>>> {
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

    fn known_keys(&self, table: &Table, known: &[&str]) -> Outcome<()> {
        let Some((key, item)) = table.iter().find(|(key, _)| !known.contains(key)) else {
            return Ok(());
        };
        let span = table
            .key(key)
            .and_then(toml_edit::Key::span)
            .or(item.span());
        let message = format!(
            "{key:?} is not a key of a policy; the keys here are {}",
            known.join(", ")
        );
        Err(self.error(span, message))
    }

    fn error(&self, span: Option<Range<usize>>, message: impl Into<String>) -> DocumentError {
        DocumentError {
            line: line_at(self.text, span),
            message: message.into(),
        }
    }
}

fn span_of(table: &Table, key: &str) -> Option<Range<usize>> {
    table.get(key).and_then(Item::span)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_written_is_read() {
        let text = r#"
schema = "egress-tracer/policy/1"
workload = "w"
include = ["base.toml"]
[[allow]]
to = "API.Example.com."
ports = ["443/tcp", "80/tcp", "80/tcp"]
tools = ["OpenAIChat"]
status = "denied"
reason = "r"
owner = "o"
approved = 2026-11-22
expires = 2027-02-20
reference = "https://example.com"
findings = ["shared-address"]
"#;
        let policy = parse(text).unwrap();
        assert_eq!(policy.include, ["base.toml"]);
        let [entry] = policy.entries.as_slice() else {
            panic!("one entry is written");
        };
        assert_eq!(entry.to.to_string(), "api.example.com");
        let ports: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["80/tcp", "443/tcp"]);
        assert_eq!(entry.expires, Some(Date::constant(2027, 2, 20)));
        assert_eq!(entry.tools.as_deref(), Some(&["OpenAIChat".to_owned()][..]));
    }

    #[test]
    fn an_error_names_its_line() {
        let at = |text: &str| parse(text).unwrap_err().line;
        assert_eq!(at("schema = \"x\"\nworkload = \"w\"\n"), 1);
        let head = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n";
        assert_eq!(at(&format!("{head}allow = 1\n")), 3);
        assert_eq!(at(&format!("{head}\n[[allow]]\nto = 1\n")), 5);
        assert_eq!(at(&format!("{head}\n[[allow]]\nto = \"a.b\"\n")), 4);
        assert_eq!(at(&format!("{head}[other]\n")), 3);
        assert_eq!(at(&format!("{head}x x\n")), 3);
    }
}
