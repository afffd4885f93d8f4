//! One row of the table, and the table.

use anyhow::Error;
use serde_json::{Value, json};

use crate::table::align;

/// What was measured, against the goal.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: String,
    /// For people.
    measured: String,
    goal: String,
    /// `None`: reported only.
    met: Option<bool>,
    /// For programs.
    values: Value,
}

impl Figure {
    /// A figure without a goal.
    pub(super) fn reported(name: &str, measured: String, values: Value) -> Self {
        Self {
            name: name.to_owned(),
            measured,
            goal: "-".to_owned(),
            met: None,
            values,
        }
    }

    /// Adds the goal and whether it is met.
    pub(super) fn against(mut self, goal: impl Into<String>, met: bool) -> Self {
        self.goal = goal.into();
        self.met = Some(met);
        self
    }

    /// What could not be measured.
    pub(super) fn failed(name: &str, error: &Error) -> Self {
        let text = format!("{error:#}");
        let told = text.lines().next().unwrap_or_default().to_owned();
        Self::reported(name, told, json!({ "error": text })).against("can be measured", false)
    }

    pub(super) fn is_missed(&self) -> bool {
        self.met == Some(false)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "measured": self.measured,
            "goal": self.goal,
            "met": self.met,
            "values": self.values,
        })
    }
}

/// Which kind of call a row is about, if it is about pairs of samples of one.
pub(super) fn call(figure: &Value) -> Option<&str> {
    let (name, pairs) = figure["name"].as_str()?.rsplit_once(", ")?;
    if !pairs.ends_with(" pairs") {
        return None;
    }
    match figure["values"]["tool"].as_str() {
        Some(tool) => name.strip_prefix(tool)?.strip_prefix(": "),
        None => Some(name),
    }
}

/// The one table.
pub(super) fn table(figures: &[Figure]) -> String {
    let head = ["WHAT", "MEASURED", "GOAL", ""].map(str::to_owned);
    let rows = figures.iter().map(|figure| {
        let word = match figure.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [&figure.name, &figure.measured, &figure.goal, word].map(str::to_owned)
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    align(&rows)
}
