//! Rust source as a flat list of words, each with its line: no comments, no strings.

use std::{fs, path::Path, str::FromStr as _};

use anyhow::{Context as _, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// One identifier or punctuation mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The words of a file. Modules under `#[cfg(test)]` are left out when `without_tests`.
pub(super) fn words(path: &Path, without_tests: bool) -> Result<Vec<Word>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let stream = TokenStream::from_str(&text).map_err(|error| {
        let line = error.span().start().line;
        anyhow!("{}:{line}: {error}", path.display())
    })?;
    let mut words = Vec::new();
    flatten(stream, without_tests, &mut words);
    Ok(words)
}

fn flatten(stream: TokenStream, without_tests: bool, words: &mut Vec<Word>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut rest = trees.as_slice();
    while let [tree, others @ ..] = rest {
        let tests = if without_tests { test_module(rest) } else { 0 };
        if tests > 0 {
            rest = &rest[tests..];
            continue;
        }
        push(tree, without_tests, words);
        rest = others;
    }
}

fn push(tree: &TokenTree, without_tests: bool, words: &mut Vec<Word>) {
    let line = tree.span().start().line;
    let mut word = |text: String, line| words.push(Word { text, line });
    match tree {
        TokenTree::Ident(ident) => word(ident.to_string(), line),
        TokenTree::Punct(mark) => word(mark.to_string(), line),
        TokenTree::Literal(_) => {}
        TokenTree::Group(group) => {
            let (open, close) = delimiters(group.delimiter());
            word(open.to_owned(), line);
            flatten(group.stream(), without_tests, words);
            let line = group.span_close().start().line;
            words.push(Word {
                text: close.to_owned(),
                line,
            });
        }
    }
}

fn delimiters(delimiter: proc_macro2::Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        proc_macro2::Delimiter::Parenthesis => ("(", ")"),
        proc_macro2::Delimiter::Brace => ("{", "}"),
        proc_macro2::Delimiter::Bracket => ("[", "]"),
        proc_macro2::Delimiter::None => ("", ""),
    }
}

/// How many of the trees at the start are one `#[cfg(test)] … mod … { }`.
fn test_module(trees: &[TokenTree]) -> usize {
    let spelt = |i: usize| trees.get(i).map(ToString::to_string).unwrap_or_default();
    if spelt(0) != "#" || spelt(1).replace(' ', "") != "[cfg(test)]" {
        return 0;
    }
    let mut end = 2;
    while spelt(end) == "#" {
        end += 2;
    }
    if spelt(end) == "mod" { end + 3 } else { 0 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "//! aya\nfn f() { g(\"aya\"); }\n#[cfg(test)]\n#[expect(x)]\nmod tests { aya!(); }\nfn h() {}\n";
        fs::write(file.path(), text).unwrap();
        let spelt = |without_tests| {
            let words = words(file.path(), without_tests).unwrap();
            words
                .into_iter()
                .map(|word| word.text)
                .collect::<Vec<_>>()
                .concat()
        };
        // A doc comment is an attribute, whose text is a string.
        assert_eq!(spelt(true), "#![doc=]fnf(){g();}fnh(){}");
        assert!(spelt(false).contains("aya!"));
    }

    #[test]
    fn words_know_their_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\n\nunsafe {}\n").unwrap();
        let words = words(file.path(), true).unwrap();
        assert_eq!((words[0].text.as_str(), words[0].line), ("unsafe", 3));
    }
}
