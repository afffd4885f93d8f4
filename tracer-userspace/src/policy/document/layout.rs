//! How entries and ports are laid out: new tables, and new ports in lists that people have laid
//! out themselves.

use std::str::FromStr;

use toml_edit::{Array, Item, Table, Value, value};

use crate::{
    analysis::risk,
    policy::{
        labels,
        model::{Entry, Service, Target},
        translation::Translation,
    },
};

/// A text in one line and with nothing invisible in it. Left to itself, toml_edit would spread a
/// name with line breaks over lines that look like entries.
pub(super) fn text(text: &str) -> Item {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ if character.is_alphanumeric() => quoted.push(character),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(character))),
        }
    }
    quoted.push('"');
    value(quoted.parse().unwrap_or_else(|_| Value::from(text)))
}

/// A new `[[allow]]` table for a candidate.
pub(super) fn table(entry: &Entry) -> Table {
    let mut table = Table::new();
    table.insert("to", text(&entry.to.to_string()));
    let ports: Array = entry.ports.iter().map(ToString::to_string).collect();
    table.insert("ports", value(ports));
    if !entry.translated.is_empty() {
        let translated: Array = entry.translated.iter().map(ToString::to_string).collect();
        table.insert("translated", value(translated));
    }
    if let Some(tools) = &entry.tools {
        table.insert("tools", list(tools));
    }
    if let Some(processes) = &entry.processes {
        table.insert("processes", list(processes));
    }
    table.insert("status", value("candidate"));
    if let Target::Published(range) = &entry.to
        && !range.list().is_empty()
    {
        table.insert("list", list(range.list()));
    }
    if !entry.findings.is_empty() {
        table.insert("findings", list(&entry.findings));
    }
    gain_roles(&mut table, &entry.roles);
    table
}

/// Adds what a candidate's destination is there for, up to as many as are written.
pub(super) fn gain_roles(table: &mut Table, roles: &[String]) {
    let known = |table: &Table| {
        let roles = table.get("roles").and_then(Item::as_array);
        roles.cloned().unwrap_or_default()
    };
    let mut all = known(table);
    for role in roles {
        let is_new = all.iter().all(|each| each.as_str() != Some(role));
        if is_new && all.len() < labels::MOST {
            all.extend(text(role).into_value().ok());
        }
    }
    if all.len() > known(table).len() {
        table.insert("roles", value(all));
    }
}

/// Adds `translation` to a table, whose list of them, if it is new, follows its ports.
pub(super) fn insert_translation(table: &mut Table, translation: &Translation) {
    if !table.contains_key("translated") {
        let order: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        let ports = order.iter().position(|key| key == "ports").unwrap_or(0);
        // Twice its place, so that there is one between two.
        let place = |key: &str| match order.iter().position(|known| known == key) {
            Some(place) => 2 * place,
            None => 2 * ports + 1,
        };
        table.insert("translated", value(Array::new()));
        table.sort_values_by(|one, _, other, _| place(one).cmp(&place(other)));
    }
    if let Some(list) = table.get_mut("translated").and_then(Item::as_array_mut) {
        if list.is_empty() {
            list.push(translation.to_string());
        } else {
            insert_sorted(list, translation);
        }
    }
}

/// A list of texts.
pub(super) fn list(texts: &[String]) -> Item {
    let array: Array = texts
        .iter()
        .filter_map(|each| text(each).into_value().ok())
        .collect();
    value(array)
}

/// Adds names of executables to a candidate that is for some alone.
pub(super) fn gain_processes(table: &mut Table, processes: &[String]) {
    if let Some(known) = table.get_mut("processes").and_then(Item::as_array_mut) {
        for process in processes {
            if known.iter().all(|each| each.as_str() != Some(process)) {
                known.push(process);
            }
        }
    }
}

/// Adds a service to a candidate, and what is found about it to its findings.
pub(super) fn gain(table: &mut Table, service: &Service) {
    if let Some(ports) = table.get_mut("ports").and_then(Item::as_array_mut) {
        insert_port(ports, service);
    }
    let to = table.get("to").and_then(Item::as_str);
    let Some(to) = to.and_then(|to| to.parse().ok()) else {
        return;
    };
    let found = risk::written(&to, std::slice::from_ref(service));
    match table.get_mut("findings").and_then(Item::as_array_mut) {
        Some(known) => {
            let is_new = |id: &&String| !known.iter().any(|each| each.as_str() == Some(id));
            let new: Vec<String> = found.iter().filter(is_new).cloned().collect();
            known.extend(new);
        }
        None if found.is_empty() => {}
        None => {
            table.insert("findings", list(&found));
        }
    }
}

/// Adds `service` to a list of ports where it sorts in, and leaves every comment where it is.
fn insert_port(ports: &mut Array, service: &Service) {
    insert_sorted(ports, service);
}

fn insert_sorted<T: FromStr + Ord + ToString>(ports: &mut Array, item: &T) {
    let later = |value: &Value| {
        let known = value.as_str().and_then(|text| text.parse::<T>().ok());
        known.is_some_and(|known| known > *item)
    };
    let mut new = Value::from(item.to_string());
    let place = ports.iter().position(later);
    match place {
        Some(index) => {
            place_before(ports, index, &mut new);
            ports.insert_formatted(index, new);
        }
        None => {
            place_last(ports, &mut new);
            ports.push_formatted(new);
        }
    }
}

/// Moves what ends the previous line (its comment) in front of `new`, which starts a line of its
/// own if the element at `index` does.
fn place_before(ports: &mut Array, index: usize, new: &mut Value) {
    let Some(next) = ports.get_mut(index) else {
        return;
    };
    let prefix = text_of(next.decor().prefix());
    match prefix.split_once('\n') {
        Some((line_end, _)) => {
            let indent = indent_of(&prefix);
            let rest = &prefix[line_end.len()..];
            next.decor_mut().set_prefix(rest);
            new.decor_mut().set_prefix(format!("{line_end}\n{indent}"));
        }
        None if index == 0 => {
            next.decor_mut().set_prefix(" ");
            new.decor_mut().set_prefix(prefix);
        }
        None => new.decor_mut().set_prefix(" "),
    }
}

/// The same at the end of the list, where what ends the last line is the list's or its last
/// element's.
fn place_last(ports: &mut Array, new: &mut Value) {
    let indent = ports
        .iter()
        .last()
        .map(|last| text_of(last.decor().prefix()))
        .filter(|prefix| prefix.contains('\n'))
        .map(|prefix: String| indent_of(&prefix).to_owned());
    let trailing_comma = ports.trailing_comma();
    let end = match ports
        .len()
        .checked_sub(1)
        .and_then(|last| ports.get_mut(last))
    {
        Some(last) if !trailing_comma => {
            let suffix = text_of(last.decor().suffix());
            last.decor_mut().set_suffix("");
            suffix
        }
        Some(_) | None => String::new(),
    };
    let end = format!("{end}{}", ports.trailing().as_str().unwrap_or_default());
    let line_end = end.split('\n').next().unwrap_or_default();
    let (prefix, rest) = match indent {
        Some(indent) => (format!("{line_end}\n{indent}"), &end[line_end.len()..]),
        // A comment must end its line, whatever the list looks like.
        None if line_end.contains('#') => (format!("{line_end}\n"), &end[line_end.len()..]),
        None => (" ".to_owned(), end.as_str()),
    };
    new.decor_mut().set_prefix(prefix);
    ports.set_trailing(rest);
    ports.set_trailing_comma(trailing_comma);
}

/// What stands before an element in its own line.
fn indent_of(prefix: &str) -> &str {
    prefix.rsplit('\n').next().unwrap_or_default()
}

fn text_of(raw: Option<&toml_edit::RawString>) -> String {
    raw.and_then(toml_edit::RawString::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use toml_edit::DocumentMut;

    use super::*;

    /// `ports` with `service` added.
    fn with(ports: &str, service: &str) -> String {
        let mut document: DocumentMut = format!("p = {ports}\n").parse().unwrap();
        let array = document["p"].as_array_mut().unwrap();
        insert_port(array, &service.parse().unwrap());
        let text = document.to_string();
        text.parse::<DocumentMut>().unwrap();
        text.strip_prefix("p = ").unwrap().trim_end().to_owned()
    }

    #[test]
    fn a_port_sorts_into_one_line() {
        assert_eq!(with(r#"["80/tcp"]"#, "22/tcp"), r#"["22/tcp", "80/tcp"]"#);
        assert_eq!(with(r#"["80/tcp"]"#, "443/tcp"), r#"["80/tcp", "443/tcp"]"#);
        let three = r#"["22/tcp", "80/tcp", "53/udp"]"#;
        assert_eq!(with(r#"["22/tcp", "53/udp"]"#, "80/tcp"), three);
        assert_eq!(
            with(r#"[ "22/tcp", ]"#, "80/tcp"),
            r#"[ "22/tcp", "80/tcp", ]"#
        );
    }

    #[test]
    fn comments_stay_with_their_ports() {
        let ports = "[\n  \"80/tcp\", # web\n  # names\n  \"53/udp\" # dns\n]";
        assert_eq!(
            with(ports, "443/tcp"),
            "[\n  \"80/tcp\", # web\n  \"443/tcp\",\n  # names\n  \"53/udp\" # dns\n]"
        );
        assert_eq!(
            with(ports, "123/udp"),
            "[\n  \"80/tcp\", # web\n  # names\n  \"53/udp\", # dns\n  \"123/udp\"\n]"
        );
        assert_eq!(
            with("[\n  \"80/tcp\", # web\n]", "443/tcp"),
            "[\n  \"80/tcp\", # web\n  \"443/tcp\",\n]"
        );
        assert_eq!(
            with("[\"80/tcp\" # web\n]", "443/tcp"),
            "[\"80/tcp\", # web\n\"443/tcp\"\n]"
        );
    }

    #[test]
    fn a_text_is_one_visible_line() {
        let shown = |name: &str| text(name).to_string();
        assert_eq!(shown("shop é"), "\"shop é\"");
        assert_eq!(
            shown("a\n\"\\\u{202e}"),
            "\"a\\U0000000A\\\"\\\\\\U0000202E\""
        );
        assert_eq!(text("a\n\"\\\u{202e}").as_str(), Some("a\n\"\\\u{202e}"));
    }
}
