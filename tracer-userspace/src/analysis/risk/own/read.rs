//! Reading the file of one's own findings, strictly: a mistyped key must not make a rule hold
//! nowhere, or an exception everywhere.

use std::str::FromStr;

use glob::Pattern;
use ipnet::IpNet;
use toml_edit::{Document, Item, Table};

use super::{Conditions, Exception, Own, OwnRule, SCHEMA};
use crate::{
    analysis::risk::{self, Severity},
    policy::{
        decision,
        document::{
            DocumentError,
            fields::{Fields, Outcome, line_at, span_of},
        },
    },
};

pub(super) const FILE_KEYS: [&str; 3] = ["schema", "rule", "except"];
pub(super) const RULE_KEYS: [&str; 8] = [
    "id", "severity", "reason", "name", "cidr", "port", "process", "tool",
];
pub(super) const EXCEPT_KEYS: [&str; 4] = ["finding", "to", "reason", "expires"];

impl FromStr for Own {
    type Err = DocumentError;

    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let document = Document::parse(text).map_err(|error| DocumentError {
            line: line_at(text, error.span()),
            message: format!("not TOML: {}", error.message().replace('\n', ", ")),
        })?;
        let reader = Reader {
            fields: Fields::new(text),
        };
        reader.own(document.as_table())
    }
}

struct Reader<'t> {
    fields: Fields<'t>,
}

impl Reader<'_> {
    fn own(&self, root: &Table) -> Outcome<Own> {
        self.fields.known_keys(root, &FILE_KEYS)?;
        let schema = self
            .fields
            .required(root, "schema", &format!("{SCHEMA:?}"))?;
        if schema != SCHEMA {
            let message =
                format!("schema {schema:?} is not known to this version; it reads {SCHEMA:?}");
            return Err(self.fields.error(span_of(root, "schema"), message));
        }
        let mut own = Own::default();
        for table in self.tables(root, "rule")? {
            let rule = self.rule(table)?;
            if risk::rule(&rule.id).is_some() || own.has(&rule.id) {
                let message = format!("there is a finding called {} already", rule.id);
                return Err(self.fields.error(span_of(table, "id"), message));
            }
            own.rules.push(rule);
        }
        for table in self.tables(root, "except")? {
            let exception = self.exception(table, &own)?;
            own.exceptions.push(exception);
        }
        Ok(own)
    }

    fn tables<'d>(&self, root: &'d Table, key: &str) -> Outcome<Vec<&'d Table>> {
        match root.get(key) {
            None => Ok(Vec::new()),
            Some(Item::ArrayOfTables(tables)) => Ok(tables.iter().collect()),
            Some(item) => {
                let message = format!("{key} must be a list of tables: write each under [[{key}]]");
                Err(self.fields.error(item.span(), message))
            }
        }
    }

    fn rule(&self, table: &Table) -> Outcome<OwnRule> {
        self.fields.known_keys(table, &RULE_KEYS)?;
        let rule = OwnRule {
            id: self.id(table)?,
            severity: self.severity(table)?,
            reason: self.reason(table)?,
            conditions: Conditions {
                name: self.parsed(table, "name", Pattern::new)?,
                cidr: self.parsed(table, "cidr", str::parse::<IpNet>)?,
                port: self.parsed(table, "port", str::parse)?,
                process: self.parsed(table, "process", Pattern::new)?,
                tool: self.parsed(table, "tool", Pattern::new)?,
            },
        };
        if rule.conditions == Conditions::default() {
            let message = format!(
                "{} is about nothing: give at least one of name, cidr, port, process and tool",
                rule.id
            );
            return Err(self.fields.error(table.span(), message));
        }
        Ok(rule)
    }

    fn exception(&self, table: &Table, own: &Own) -> Outcome<Exception> {
        self.fields.known_keys(table, &EXCEPT_KEYS)?;
        let finding = self.fields.required(table, "finding", "\"ID\"")?;
        if risk::rule(&finding).is_none() && !own.has(&finding) {
            let message =
                format!("{finding:?} is not a finding; they are listed in docs/findings.md");
            return Err(self.fields.error(span_of(table, "finding"), message));
        }
        let missing = |key: &str, example: &str| {
            let message = format!("{key} is missing; write {key} = {example}");
            self.fields.error(table.span(), message)
        };
        let to = self.parsed(table, "to", Pattern::new)?;
        let expires = self.fields.date(table, "expires")?;
        Ok(Exception {
            finding,
            to: to.ok_or_else(|| missing("to", "\"*.internal.example\""))?,
            reason: self.reason(table)?,
            expires: expires.ok_or_else(|| missing("expires", "2027-02-20"))?,
        })
    }

    /// Findings stand in policies and on the command line: words of the same form as the table's.
    fn id(&self, table: &Table) -> Outcome<String> {
        let id = self.fields.required(table, "id", "\"WORD\"")?;
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !id.is_empty() && id.bytes().all(is_word) {
            return Ok(id);
        }
        let message = format!("id {id:?} must be lower-case letters, digits and hyphens");
        Err(self.fields.error(span_of(table, "id"), message))
    }

    fn severity(&self, table: &Table) -> Outcome<Severity> {
        let choices = "\"low\", \"medium\", \"high\" or \"critical\"";
        let text = self.fields.required(table, "severity", choices)?;
        let all = [
            Severity::Low,
            Severity::Medium,
            Severity::High,
            Severity::Critical,
        ];
        let found = all.into_iter().find(|each| each.to_string() == text);
        found.ok_or_else(|| {
            let message = format!("severity {text:?} is not known; write {choices}");
            self.fields.error(span_of(table, "severity"), message)
        })
    }

    fn reason(&self, table: &Table) -> Outcome<String> {
        let reason = self.fields.required(table, "reason", "\"WHY\"")?;
        if decision::is_reason(&reason) {
            return Ok(reason);
        }
        let message = format!("{reason:?} is not a reason: say in a few words why");
        Err(self.fields.error(span_of(table, "reason"), message))
    }

    fn parsed<T, E: std::fmt::Display>(
        &self,
        table: &Table,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Outcome<Option<T>> {
        let Some(text) = self.fields.string(table, key)? else {
            return Ok(None);
        };
        let wrong = |error: E| {
            let message = format!("{key} = {text:?}: {error}");
            self.fields.error(span_of(table, key), message)
        };
        parse(&text).map(Some).map_err(wrong)
    }
}
