//! The rules of the house that no compiler checks: who may name what.
//!
//! They hold for words of code, not for comments and strings; what a macro makes is not seen.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use super::source::{Word, words};

const SOURCE: &str = "tracer-userspace/src";

/// Something that must not be named in some places.
struct Rule {
    /// Files whose path, below [`SOURCE`], starts so.
    inside: &'static [&'static str],
    /// Except those.
    except: &'static [&'static str],
    forbidden: Forbidden,
    why: &'static str,
}

enum Forbidden {
    /// Any of these words.
    Words(&'static [&'static str]),
    /// Any of these paths, written out or imported, in one `use` or several.
    Paths(&'static [&'static str]),
    /// Any path through `crate::` or `super::` to one of these rooms.
    Rooms(&'static [&'static str]),
}

const PURE: &[&str] = &[
    "decode", "wire", "foreign", "policy", "render", "analysis", "ranges", "report", "spans",
];
const RIGHT: &[&str] = &[
    "policy", "render", "import", "analysis", "foreign", "ranges", "report", "record",
];
/// Where bytes are read that no other program has read before, and names that are to be written as
/// these are.
const CAPTURES: &[&str] = &["import/capture", "import/tools", "wire"];

const RULES: [Rule; 5] = [
    Rule {
        inside: &[""],
        except: &["ebpf/", "ebpf.rs"],
        forbidden: Forbidden::Words(&["aya", "aya_log", "aya_obj", "unsafe"]),
        why: "only ebpf/ names aya or contains unsafe",
    },
    Rule {
        inside: PURE,
        except: &[],
        forbidden: Forbidden::Paths(&[
            "std::fs",
            "std::process",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::os::unix::net",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
            "std::env",
            "tokio",
            "tempfile",
        ]),
        why: "decode, wire, policy, analysis and render do no I/O",
    },
    Rule {
        inside: PURE,
        except: &[],
        forbidden: Forbidden::Paths(&[
            "std::time::SystemTime",
            "std::time::Instant",
            "SystemTime::now",
            "Instant::now",
            "Timestamp::now",
            "Zoned::now",
        ]),
        why: "decode, wire, policy, analysis and render read no clock",
    },
    Rule {
        inside: RIGHT,
        except: CAPTURES,
        forbidden: Forbidden::Rooms(&["ebpf", "decode", "enrich", "aggregate"]),
        why: "nothing right of record imports anything left of it",
    },
    Rule {
        inside: CAPTURES,
        except: &[],
        forbidden: Forbidden::Rooms(&["ebpf", "enrich", "aggregate"]),
        why: "captures share the decoders with the live half, and nothing else",
    },
];

/// Fails with one line for each violation.
pub(super) fn check() -> Result<()> {
    let mut violations = Vec::new();
    for path in files(Path::new(SOURCE))? {
        for rule in &RULES {
            violations.extend(rule.violations(&path)?);
        }
    }
    if !violations.is_empty() {
        bail!("\n    {}", violations.join("\n    "));
    }
    Ok(())
}

/// All Rust files below `directory`, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Rule {
    fn violations(&self, path: &Path) -> Result<Vec<String>> {
        let below = path.strip_prefix(SOURCE).unwrap_or(path).to_string_lossy();
        if !self.applies(&below) {
            return Ok(Vec::new());
        }
        // Tests may read files and import what they compare with; unsafe they may not.
        let without_tests = !matches!(self.forbidden, Forbidden::Words(_));
        let words = words(path, without_tests)?;
        let told = self.forbidden.found(&words).into_iter();
        Ok(told
            .map(|word| {
                let Word { text, line } = word;
                format!("{}:{line}: {text}: {}", path.display(), self.why)
            })
            .collect())
    }

    /// A room is a folder or a file: `policy` is `policy/…` and `policy.rs`.
    fn applies(&self, below: &str) -> bool {
        let is_in = |room: &&str| {
            below.strip_prefix(*room).is_some_and(|rest| {
                room.is_empty()
                    || room.ends_with('/')
                    || rest.is_empty()
                    || rest.starts_with(['/', '.'])
            })
        };
        let is_test = below.ends_with("/tests.rs");
        let excepted = self.except.iter().any(|room| below.starts_with(room));
        self.inside.iter().any(is_in) && !excepted && !is_test
    }
}

impl Forbidden {
    fn found(&self, words: &[Word]) -> Vec<Word> {
        match self {
            Self::Words(forbidden) => words
                .iter()
                .filter(|word| forbidden.contains(&word.text.as_str()))
                .cloned()
                .collect(),
            Self::Paths(forbidden) => paths(words)
                .into_iter()
                .filter(|path| forbidden.iter().any(|wanted| names(&path.text, wanted)))
                .collect(),
            Self::Rooms(rooms) => paths(words)
                .into_iter()
                .filter(|path| leads_to(&path.text, rooms))
                .collect(),
        }
    }
}

/// Whether `wanted` is a part of `path`: `jiff::Timestamp::now` names `Timestamp::now`.
fn names(path: &str, wanted: &str) -> bool {
    format!("::{path}::").contains(&format!("::{wanted}::"))
}

/// Whether `path` goes from the crate's root to one of `rooms`. From two folders deep, `super`
/// may stop short of the root, where no room has such a name.
fn leads_to(path: &str, rooms: &[&str]) -> bool {
    let mut parts = path.split("::").peekable();
    let mut from_root = false;
    while parts
        .next_if(|part| matches!(*part, "crate" | "super" | "self" | "tracer_userspace"))
        .is_some()
    {
        from_root = true;
    }
    from_root && parts.next().is_some_and(|room| rooms.contains(&room))
}

/// Every path in the code, with the braces of `use` multiplied out.
fn paths(words: &[Word]) -> Vec<Word> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut line = 0;
    let mut i = 0;
    while let Some(word) = words.get(i) {
        let joined = words.get(i + 1).is_some_and(|next| next.text == ":")
            && words.get(i + 2).is_some_and(|next| next.text == ":");
        let is_name = word
            .text
            .starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_name {
            if current.is_empty() {
                line = word.line;
                current = prefixes.last().cloned().unwrap_or_default();
            }
            current += &word.text;
            if joined {
                current += "::";
                i += 3;
                continue;
            }
            found.push(Word {
                text: std::mem::take(&mut current),
                line,
            });
        } else if word.text == "{" {
            // After `a::` it is a group of imports, else a block, where paths begin anew.
            prefixes.push(std::mem::take(&mut current));
        } else {
            if word.text == "}" {
                prefixes.pop();
            }
            current.clear();
        }
        i += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(code: &str) -> Vec<Word> {
        let mut words = Vec::new();
        for (i, line) in code.lines().enumerate() {
            words.extend(line.split_whitespace().map(|text| Word {
                text: text.to_owned(),
                line: i + 1,
            }));
        }
        words
    }

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn grouped_imports_are_multiplied_out() {
        let found = paths(&spelt(
            "use std : : { fs : : File , net : : { IpAddr , TcpStream } } ;",
        ));
        assert_eq!(
            texts(found),
            [
                "use",
                "std::fs::File",
                "std::net::IpAddr",
                "std::net::TcpStream"
            ]
        );
    }

    #[test]
    fn a_block_is_no_group() {
        let found = paths(&spelt("fn f ( ) { std : : fs : : read ( ) }"));
        assert_eq!(texts(found), ["fn", "f", "std::fs::read"]);
    }

    #[test]
    fn rooms_are_found_through_crate_and_super() {
        let rooms = Forbidden::Rooms(&["ebpf", "decode"]);
        let found = rooms.found(&spelt("use crate : : { record : : Record , decode : : dns } ;\nuse super : : super : : ebpf ;\nuse decode_not ;\nlet decode = 1 ;"));
        assert_eq!(
            found.iter().map(|word| word.line).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn a_room_is_a_folder_or_a_file() {
        let rule = &RULES[3];
        assert!(rule.applies("policy/mod.rs"));
        assert!(rule.applies("policy.rs"));
        assert!(rule.applies("record.rs"));
        assert!(!rule.applies("policymaker.rs"));
        assert!(!rule.applies("ebpf/mod.rs"));
        assert!(!RULES[0].applies("ebpf/mod.rs"));
        assert!(RULES[0].applies("main.rs"));
    }
}
