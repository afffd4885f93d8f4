//! ENTRY on the command line: `to`, or `to#N` for the N-th entry of that destination in the file.

use crate::policy::model::{Entry, Policy, Target};

/// Why no single entry was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("the policy has no entry for {0}")]
    None(String),
    #[error("{to}#{number}: the policy has {count} entries for {to}")]
    Number {
        to: String,
        number: usize,
        count: usize,
    },
    #[error("{to} is ambiguous; name one of: {}", .choices.join("; "))]
    Ambiguous { to: String, choices: Vec<String> },
}

/// The number (from 0) of the entry that `text` names.
pub fn select(policy: &Policy, text: &str) -> Result<usize, SelectError> {
    let (to, number) = match text.rsplit_once('#') {
        Some((to, number)) => match number.parse::<usize>() {
            Ok(number) => (to, Some(number)),
            Err(_) => return Err(SelectError::None(text.to_owned())),
        },
        None => (text, None),
    };
    let none = || SelectError::None(to.to_owned());
    let target: Target = to.parse().map_err(|_| none())?;
    let found: Vec<usize> = indices(policy, &target).collect();
    match (number, found.as_slice()) {
        (_, []) => Err(none()),
        (None, [only]) => Ok(*only),
        (None, several) => Err(SelectError::Ambiguous {
            to: to.to_owned(),
            choices: several
                .iter()
                .enumerate()
                .map(|(at, &index)| choice(at + 1, &policy.entries[index]))
                .collect(),
        }),
        (Some(number), several) => {
            let at = number.checked_sub(1).and_then(|at| several.get(at));
            at.copied().ok_or_else(|| SelectError::Number {
                to: to.to_owned(),
                number,
                count: several.len(),
            })
        }
    }
}

/// What an entry is called on the command line.
#[must_use]
pub fn name_of(policy: &Policy, index: usize) -> String {
    let to = &policy.entries[index].to;
    let same: Vec<usize> = indices(policy, to).collect();
    match same.iter().position(|&each| each == index) {
        Some(at) if same.len() > 1 => format!("{to}#{}", at + 1),
        Some(_) | None => to.to_string(),
    }
}

fn indices(policy: &Policy, to: &Target) -> impl Iterator<Item = usize> {
    let is_same = move |(_, entry): &(usize, &Entry)| entry.to == *to;
    policy
        .entries
        .iter()
        .enumerate()
        .filter(is_same)
        .map(|(index, _)| index)
}

fn choice(number: usize, entry: &Entry) -> String {
    let ports: Vec<String> = entry.ports.iter().map(ToString::to_string).collect();
    let tools = entry
        .tools
        .as_ref()
        .map_or_else(String::new, |tools| format!(", tools {}", tools.join(" ")));
    let (to, status, ports) = (&entry.to, entry.status.word(), ports.join(" "));
    format!("{to}#{number} ({status}, {ports}{tools})")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;
    use crate::policy::document;

    #[test]
    fn an_entry_is_named_by_its_destination() {
        let text = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n\
                    [[allow]]\nto = \"a.example\"\nports = [\"1/tcp\"]\nstatus = \"denied\"\n\
                    [[allow]]\nto = \"b.example\"\nports = [\"1/tcp\"]\nstatus = \"denied\"\n\
                    [[allow]]\nto = \"a.example\"\nports = [\"2/tcp\"]\nstatus = \"candidate\"\n";
        let policy = document::parse(text).unwrap();
        assert_eq!(select(&policy, "B.example."), Ok(1));
        assert_eq!(select(&policy, "a.example#2"), Ok(2));
        assert_eq!(name_of(&policy, 2), "a.example#2");
        assert_eq!(name_of(&policy, 1), "b.example");
        let ambiguous = select(&policy, "a.example").unwrap_err().to_string();
        assert!(
            ambiguous.contains("a.example#2 (candidate, 2/tcp)"),
            "{ambiguous}"
        );
        for wrong in ["a.example#0", "a.example#3", "a.example#x", "c.example", ""] {
            assert!(select(&policy, wrong).is_err(), "{wrong}");
        }
    }
}
