//! Keeps secrets out of everything that is written: command lines, paths and labels can hold
//! passwords and tokens. Pure.
//!
//! Three kinds of rule, each in a file of its own:
//!
//! | file | a secret is recognised by |
//! |---|---|
//! | [`shapes`] | its own shape: a provider's prefix, a JWT, a private key, sheer randomness |
//! | [`named`] | the name before it: `PASSWORD=x`, `"token": "x"`, `Authorization: x` |
//! | [`argv`] | the argument before it: `--password x`, `-u user:x` |
//!
//! Rather a word too many than a secret too few: what is hidden is still on the machine, what was
//! written is in somebody's repository.

mod argv;
mod named;
mod shapes;

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use regex::{Regex, RegexBuilder};

/// What is written in place of a secret.
pub const MARK: &str = "[redacted]";

/// What is hidden.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// The user's own patterns.
    patterns: Vec<Regex>,
    off: bool,
}

impl Redactor {
    /// Hides what the rules know, and what `patterns` match. A pattern with a group hides what
    /// the first group matches, one without hides all that it matches.
    #[must_use]
    pub fn new(patterns: Vec<Regex>) -> Self {
        Self {
            patterns,
            off: false,
        }
    }

    /// Hides nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            patterns: Vec::new(),
            off: true,
        }
    }

    /// A command line. `cut`: it was longer, so that its last word may be the beginning of one.
    #[must_use]
    pub fn command_line(&self, arguments: &[String], cut: bool) -> Vec<String> {
        if self.off {
            return arguments.to_vec();
        }
        let mut hidden = argv::hide(arguments, |text| self.text(text).into_owned());
        if let Some(last) = hidden.last_mut().filter(|_| cut) {
            shapes::hide_beginning(last);
        }
        hidden
    }

    /// A path, a name, or any other text.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.off {
            return Cow::Borrowed(text);
        }
        let hidden = shapes::hide(text);
        let hidden = then(hidden, named::hide);
        self.patterns.iter().fold(hidden, |text, pattern| {
            then(text, |text| hide_match(pattern, text))
        })
    }

    /// Labels, whose names tell as much as an argument's.
    #[must_use]
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let hide = |(name, value): (&String, &String)| {
            let hidden = if !self.off && named::is_secret(name) && !value.is_empty() {
                MARK.to_owned()
            } else {
                self.text(value).into_owned()
            };
            (self.text(name).into_owned(), hidden)
        };
        labels.iter().map(hide).collect()
    }
}

/// Applies a rule to what another one left.
fn then<'a>(text: Cow<'a, str>, rule: impl Fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    let changed = match rule(&text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(changed) => Some(changed),
    };
    changed.map_or(text, Cow::Owned)
}

fn hide_match<'a>(pattern: &Regex, text: &'a str) -> Cow<'a, str> {
    pattern.replace_all(text, |found: &regex::Captures<'_>| {
        let whole = &found[0];
        let secret = found.get(1).or_else(|| found.get(0));
        let (Some(all), Some(secret)) = (found.get(0), secret) else {
            return MARK.to_owned();
        };
        let (from, to) = (secret.start() - all.start(), secret.end() - all.start());
        [&whole[..from], MARK, &whole[to..]].concat()
    })
}

/// A pattern of ours, in memory that suits a daemon.
fn pattern(text: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "constants, each used by a test")]
    RegexBuilder::new(text)
        .dfa_size_limit(1 << 18)
        .build()
        .expect("our own patterns are well formed")
}

/// A pattern that is compiled when it is first used.
type Lazy = LazyLock<Regex>;

#[cfg(test)]
mod tests;
