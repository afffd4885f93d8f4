//! Whether calls cost more than they did: ratios against those of an earlier run, never times.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::figure::{Figure, call};

/// What a ratio may grow by, beside its interval: another build of the same programs lies elsewhere
/// in the caches.
const ROOM: f64 = 0.03;

/// What costs more than it did.
#[derive(Debug, PartialEq)]
pub(super) struct Grown {
    pub(super) call: String,
    pub(super) was: f64,
    pub(super) low: f64,
}

/// The ratio of a kind of call, and where it lies.
struct Cost<'a> {
    call: &'a str,
    low: f64,
    ratio: f64,
    high: f64,
}

/// The figures in `path`, as `--json` has written them.
pub(super) fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let all: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let figures = all["figures"].as_array().cloned();
    figures.with_context(|| format!("{}: no figures", path.display()))
}

/// Calls whose whole interval lies above the earlier one, with some room.
pub(super) fn grown(earlier: &[Value], figures: &[Figure]) -> Result<Vec<Grown>> {
    let now: Vec<Value> = figures.iter().map(Figure::to_json).collect();
    let pairs: Vec<_> = now
        .iter()
        .filter_map(cost)
        .filter_map(|now| {
            let was = earlier.iter().filter_map(cost);
            let was = was.into_iter().find(|was| was.call == now.call)?;
            Some((was, now))
        })
        .collect();
    if pairs.is_empty() {
        bail!("nothing that was measured has an earlier figure to be compared with");
    }
    let grown = pairs
        .into_iter()
        .filter(|(was, now)| now.low > was.high + ROOM);
    let grown = grown.map(|(was, now)| Grown {
        call: now.call.to_owned(),
        was: was.ratio,
        low: now.low,
    });
    Ok(grown.collect())
}

/// Of a row that is the cost of a call under the daemon: those have a goal.
fn cost(figure: &Value) -> Option<Cost<'_>> {
    let values = &figure["values"];
    values["goal"].as_f64()?;
    Some(Cost {
        call: call(figure)?,
        low: values["low"].as_f64()?,
        ratio: values["ratio"].as_f64()?,
        high: values["high"].as_f64()?,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(call: &str, low: f64, ratio: f64, high: f64) -> Figure {
        let values = json!({ "low": low, "ratio": ratio, "high": high, "goal": 1.1 });
        Figure::reported(&format!("{call}, 30 pairs"), String::new(), values)
    }

    #[test]
    fn only_an_interval_that_lies_above_all_that_was_has_grown() {
        let earlier = [row("tcp", 1.04, 1.05, 1.06), row("send", 1.0, 1.01, 1.02)];
        let earlier: Vec<_> = earlier.iter().map(Figure::to_json).collect();
        let now = [row("tcp", 1.08, 1.12, 1.2), row("send", 1.08, 1.09, 1.1)];
        let grown = grown(&earlier, &now).unwrap();
        let expected = Grown {
            call: "send".to_owned(),
            was: 1.01,
            low: 1.08,
        };
        assert_eq!(grown, [expected]);
    }

    #[test]
    fn a_comparison_of_nothing_is_no_success() {
        let now = [row("tcp", 1.08, 1.12, 1.2)];
        assert!(grown(&[], &now).is_err());
        assert!(grown(&[now[0].to_json()], &[]).is_err());
    }
}
