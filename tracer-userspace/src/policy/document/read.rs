//! Reading `policy.toml`, strictly: a mistyped key must never make an approval wider or longer.

use ipnet::IpNet;
use toml_edit::{Document, Item, Table};

use crate::policy::{
    document::{
        DocumentError,
        fields::{Fields, Outcome, line_at, span_of},
    },
    model::{Entry, Policy, SCHEMA, Service, Status, Target},
    translation::Translation,
};

pub(in crate::policy) const POLICY_KEYS: [&str; 4] = ["schema", "workload", "include", "allow"];
pub(in crate::policy) const ENTRY_KEYS: [&str; 16] = [
    "to",
    "ports",
    "translated",
    "tools",
    "processes",
    "status",
    "reason",
    "owner",
    "approved",
    "expires",
    "reference",
    "list",
    "at_most",
    "findings",
    "roles",
    "acknowledged",
];

/// What `text` says.
pub fn parse(text: &str) -> Result<Policy, DocumentError> {
    let document = Document::parse(text).map_err(|error| DocumentError {
        line: line_at(text, error.span()),
        message: format!("not TOML: {}", error.message().replace('\n', ", ")),
    })?;
    Reader {
        fields: Fields::new(text),
    }
    .policy(document.as_table())
}

/// Reads tables of a policy.
struct Reader<'t> {
    fields: Fields<'t>,
}

impl Reader<'_> {
    fn policy(&self, root: &Table) -> Outcome<Policy> {
        self.fields.known_keys(root, &POLICY_KEYS)?;
        self.schema(root)?;
        let workload = self.fields.required(root, "workload", "\"NAME\"")?;
        let include = self.fields.strings(root, "include")?.unwrap_or_default();
        let entries = match root.get("allow") {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => tables
                .iter()
                .map(|table| self.entry(table))
                .collect::<Outcome<_>>()?,
            Some(item) => {
                let advice = "allow must be a list of tables: write each entry under [[allow]]";
                return Err(self.fields.error(item.span(), advice));
            }
        };
        Ok(Policy {
            workload,
            include,
            entries,
        })
    }

    fn schema(&self, root: &Table) -> Outcome<()> {
        let schema = self
            .fields
            .required(root, "schema", &format!("{SCHEMA:?}"))?;
        if schema == SCHEMA {
            return Ok(());
        }
        let message =
            format!("schema {schema:?} is not known to this version; it reads {SCHEMA:?}");
        Err(self.fields.error(span_of(root, "schema"), message))
    }

    fn entry(&self, table: &Table) -> Outcome<Entry> {
        self.fields.known_keys(table, &ENTRY_KEYS)?;
        let entry = Entry {
            to: self.target(table)?,
            ports: self.ports(table)?,
            translated: self.translated(table)?,
            tools: self.tools(table)?,
            processes: self.fields.strings(table, "processes")?,
            status: self.status(table)?,
            reason: self.fields.string(table, "reason")?,
            owner: self.fields.string(table, "owner")?,
            approved: self.fields.date(table, "approved")?,
            expires: self.fields.date(table, "expires")?,
            reference: self.fields.string(table, "reference")?,
            list: self.fields.strings(table, "list")?.unwrap_or_default(),
            at_most: self.fields.number(table, "at_most")?,
            findings: self.fields.strings(table, "findings")?.unwrap_or_default(),
            roles: self.fields.strings(table, "roles")?.unwrap_or_default(),
            acknowledged: self
                .fields
                .strings(table, "acknowledged")?
                .unwrap_or_default(),
        };
        self.approval(table, &entry)?;
        self.translates_ports(table, &entry)?;
        self.published(table, &entry)?;
        Ok(entry)
    }

    /// What says how wide a published range may be belongs to one, and an approval of one needs it.
    fn published(&self, table: &Table, entry: &Entry) -> Outcome<()> {
        let is_range = matches!(entry.to, Target::Published(_));
        let mut keys = ["list", "at_most"].into_iter();
        if let Some(key) = keys.find(|key| table.contains_key(key))
            && !is_range
        {
            let message = format!("{key} is for published ranges such as aws:S3:us-east-1");
            return Err(self.fields.error(span_of(table, key), message));
        }
        let is_whole = !entry.list.is_empty() && entry.at_most.is_some();
        if is_range && entry.status == Status::Approved && !is_whole {
            let message = format!(
                "{} is approved without list and at_most, which say how wide it may be; \
                 `policy approve` writes them",
                entry.to
            );
            return Err(self.fields.error(table.span(), message));
        }
        Ok(())
    }

    fn translated(&self, table: &Table) -> Outcome<Vec<Translation>> {
        let texts = self
            .fields
            .strings(table, "translated")?
            .unwrap_or_default();
        let mut all = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Translation>, _>>()
            .map_err(|error| {
                self.fields
                    .error(span_of(table, "translated"), error.to_string())
            })?;
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
                Err(self.fields.error(span_of(table, "translated"), message))
            }
        }
    }

    fn target(&self, table: &Table) -> Outcome<Target> {
        let text = self.fields.required(
            table,
            "to",
            "an address, a network, a published range or a host name",
        )?;
        let span = || span_of(table, "to");
        let target: Target = text
            .parse()
            .map_err(|error| self.fields.error(span(), format!("to = {error}")))?;
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
            return Err(self.fields.error(span(), message));
        }
        Ok(target)
    }

    fn ports(&self, table: &Table) -> Outcome<Vec<Service>> {
        let example = "ports = [\"443/tcp\"]";
        let Some(texts) = self.fields.strings(table, "ports")? else {
            return Err(self.fields.error(
                table.span(),
                format!("the entry has no ports; write {example}"),
            ));
        };
        if texts.is_empty() {
            let message = format!("ports is empty; write {example}");
            return Err(self.fields.error(span_of(table, "ports"), message));
        }
        let mut ports = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Service>, _>>()
            .map_err(|error| {
                self.fields
                    .error(span_of(table, "ports"), error.to_string())
            })?;
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    fn tools(&self, table: &Table) -> Outcome<Option<Vec<String>>> {
        let tools = self.fields.strings(table, "tools")?;
        if tools.as_ref().is_some_and(Vec::is_empty) {
            let message = "tools is empty; name a tool, or leave the key out for any";
            return Err(self.fields.error(span_of(table, "tools"), message));
        }
        Ok(tools)
    }

    fn status(&self, table: &Table) -> Outcome<Status> {
        let choices = "\"candidate\", \"approved\" or \"denied\"";
        let text = self.fields.required(table, "status", choices)?;
        match text.as_str() {
            "candidate" => Ok(Status::Candidate),
            "approved" => Ok(Status::Approved),
            "denied" => Ok(Status::Denied),
            _ => {
                let message = format!("status {text:?} is not known; write {choices}");
                Err(self.fields.error(span_of(table, "status"), message))
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
        Err(self.fields.error(table.span(), message))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use jiff::civil::Date;

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
