//! The settings file: flags by their long names, a table for each verb.
//!
//! ```toml
//! [daemon]
//! output = "/var/lib/egress-tracer"
//! container = ["agent-*"]
//! ```
//!
//! What the file says is put on the command line where the flag is not given already, so that
//! both are checked by the same rules: flag, then file, then default.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item, Value};

/// Read when no other file is named.
pub const DEFAULT_FILE: &str = "/etc/egress-tracer.toml";

/// Flags that have a short form as well.
const SHORT: [(&str, &str); 1] = [("output", "-o")];

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read the settings file {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the settings file {path} is not TOML: {error}")]
    Toml { path: PathBuf, error: String },
    #[error(
        "the settings file {path}: {table}.{key} is a {kind}: expected text, a number, true, false, or a list of them"
    )]
    Kind {
        path: PathBuf,
        table: String,
        key: String,
        kind: &'static str,
    },
    #[error(
        "the settings file {path}: {table:?} is not a verb: settings stand in tables such as [daemon]"
    )]
    NoVerb { path: PathBuf, table: String },
}

/// The command line with what the settings file adds. `verbs` are the tables that may be there.
///
/// # Errors
/// A file was named that cannot be read, or the file makes no sense.
pub fn complete(arguments: Vec<OsString>, verbs: &[&str]) -> Result<Vec<OsString>, SettingsError> {
    let Some(at) = verb_position(&arguments) else {
        return Ok(arguments);
    };
    let (path, named) = file(&arguments);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if !named && error.kind() == io::ErrorKind::NotFound => return Ok(arguments),
        Err(error) => return Err(SettingsError::Unreadable { path, error }),
    };
    let verb = arguments[at].to_string_lossy().into_owned();
    let added = flags(&path, &text, &verb, verbs, &arguments[at..])?;
    let mut completed = arguments;
    completed.splice(at + 1..at + 1, added);
    Ok(completed)
}

/// The first word that is no flag, nor `--config`'s value.
fn verb_position(arguments: &[OsString]) -> Option<usize> {
    let mut skip = false;
    arguments.iter().enumerate().skip(1).find_map(|(at, word)| {
        if std::mem::take(&mut skip) {
            return None;
        }
        skip = word == "--config";
        (!starts_with(word, "-")).then_some(at)
    })
}

/// The file to read, and whether the command line names it.
fn file(arguments: &[OsString]) -> (PathBuf, bool) {
    let ours = arguments.iter().take_while(|word| *word != "--");
    let mut named = ours
        .clone()
        .zip(ours.skip(1))
        .filter(|(word, _)| *word == "--config");
    let joined = arguments
        .iter()
        .take_while(|word| *word != "--")
        .find_map(|word| word.to_str()?.strip_prefix("--config="));
    match (named.next(), joined) {
        (Some((_, path)), _) => (path.into(), true),
        (None, Some(path)) => (path.into(), true),
        (None, None) => (DEFAULT_FILE.into(), false),
    }
}

fn flags(
    path: &Path,
    text: &str,
    verb: &str,
    verbs: &[&str],
    given: &[OsString],
) -> Result<Vec<OsString>, SettingsError> {
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let error = error.to_string().trim().replace('\n', " ");
        SettingsError::Toml {
            path: path.to_owned(),
            error,
        }
    })?;
    let mut added = Vec::new();
    for (table, content) in document.iter() {
        let Some(settings) = content.as_table_like().filter(|_| verbs.contains(&table)) else {
            let (path, table) = (path.to_owned(), table.to_owned());
            return Err(SettingsError::NoVerb { path, table });
        };
        let chosen = settings
            .iter()
            .filter(|(key, _)| table == verb && !is_given(key, given));
        for (key, item) in chosen {
            let wrong = |kind| SettingsError::Kind {
                path: path.to_owned(),
                table: table.to_owned(),
                key: key.to_owned(),
                kind,
            };
            added.extend(flag(key, item).map_err(wrong)?);
        }
    }
    Ok(added)
}

/// One setting as words of a command line, or the kind of value that cannot be one.
fn flag(key: &str, item: &Item) -> Result<Vec<OsString>, &'static str> {
    let value = item.as_value().ok_or_else(|| item.type_name())?;
    let words = match value {
        Value::Boolean(on) if *on.value() => vec![format!("--{key}").into()],
        Value::Boolean(_) => Vec::new(),
        Value::Array(list) => list
            .iter()
            .map(|value| Ok(format!("--{key}={}", word(value)?).into()))
            .collect::<Result<_, &'static str>>()?,
        single @ (Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Datetime(_)
        | Value::InlineTable(_)) => vec![format!("--{key}={}", word(single)?).into()],
    };
    Ok(words)
}

fn word(value: &Value) -> Result<String, &'static str> {
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_integer().map(|number| number.to_string()))
        .ok_or_else(|| value.type_name())
}

/// Whether the command line has the flag, before the command of `run`.
fn is_given(key: &str, given: &[OsString]) -> bool {
    let long = format!("--{key}");
    let with_value = format!("{long}=");
    let short = SHORT
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, short)| *short);
    given.iter().take_while(|word| *word != "--").any(|word| {
        *word == *long
            || starts_with(word, &with_value)
            || short.is_some_and(|short| starts_with(word, short))
    })
}

fn starts_with(word: &OsStr, prefix: &str) -> bool {
    word.as_encoded_bytes().starts_with(prefix.as_bytes())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    const VERBS: [&str; 2] = ["daemon", "run"];

    fn completed(file: &str, line: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.toml");
        fs::write(&path, file).unwrap();
        let config = format!("--config={}", path.display());
        let words = line.split(' ').map(OsString::from);
        let mut arguments: Vec<OsString> = words.collect();
        arguments.insert(1, config.clone().into());
        let completed = complete(arguments, &VERBS).map_err(|error| error.to_string())?;
        let words: Vec<_> = completed
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        Ok(words.join(" ").replace(&format!(" {config}"), ""))
    }

    #[test]
    fn the_file_adds_what_the_command_line_does_not_say() {
        let file = "[daemon]\noutput = \"/a\"\ninterval = \"2s\"\ncontainer = [\"x\", \"y\"]\nprobe-log = true\n[run]\nrepeat = 3\n";
        assert_eq!(
            completed(file, "egress-tracer daemon --interval=1s -o /b").unwrap(),
            "egress-tracer daemon --container=x --container=y --probe-log --interval=1s -o /b"
        );
        assert_eq!(
            completed(file, "egress-tracer run -- tool --repeat 9").unwrap(),
            "egress-tracer run --repeat=3 -- tool --repeat 9"
        );
        assert_eq!(
            completed(file, "egress-tracer doctor").unwrap(),
            "egress-tracer doctor"
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        for (file, expected) in [
            ("daemon = 1", "is not a verb"),
            ("[deamon]\n", "is not a verb"),
            ("[daemon]\noutput = 1.5", "is a float"),
            ("[daemon]\noutput = {a = 1}", "is a inline table"),
            ("[daemon", "is not TOML"),
        ] {
            let error = completed(file, "egress-tracer daemon").unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_named_file_must_be_there_and_the_usual_one_need_not() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let missing = complete(words("egress-tracer --config /nonexistent daemon"), &VERBS);
        assert!(matches!(missing, Err(SettingsError::Unreadable { .. })));
        assert_eq!(
            complete(words("egress-tracer --help"), &VERBS)
                .unwrap()
                .len(),
            2
        );
    }
}
