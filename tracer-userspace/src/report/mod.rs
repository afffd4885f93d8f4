//! Drift as text for people and for the tools that show it, and the page about everything. Pure text; everything that comes from
//! elsewhere is escaped here.

mod machine;
pub mod page;
mod people;

use crate::analysis::drift::Drift;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub workload: &'a str,
    /// The policy's path, as it was given.
    pub policy: &'a str,
    pub drift: &'a [Drift],
    /// For each of them, the line of the policy that it is about, counted from 1.
    pub lines: &'a [usize],
}

/// The forms of a drift report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A table for a terminal
    Text,
    /// One object, for scripts
    Json,
    /// For a pull request
    Markdown,
    /// For code scanning (SARIF 2.1.0)
    Sarif,
    /// For CI's test results
    Junit,
    /// Workflow commands that annotate the policy
    Github,
}

/// The report's text.
///
/// # Errors
/// What serde says.
pub fn text(report: &Report<'_>, form: Form) -> serde_json::Result<String> {
    match form {
        Form::Text => Ok(people::text(report)),
        Form::Json => machine::json(report),
        Form::Markdown => Ok(people::markdown(report)),
        Form::Sarif => machine::sarif(report),
        Form::Junit => Ok(machine::junit(report)),
        Form::Github => Ok(machine::github(report)),
    }
}

/// `text` in one line, with nothing that steers.
fn plain(text: &str) -> String {
    let spelled = |each: char| {
        if crate::harmless::steers(each) {
            each.escape_unicode().to_string()
        } else {
            each.to_string()
        }
    };
    text.chars().map(spelled).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
