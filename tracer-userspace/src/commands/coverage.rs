//! `coverage`: what the runs have not shown yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    analysis::coverage::{self, Incidence, Point},
    cli::Coverage,
    commands::{Failure, evidence},
    harmless,
    output::terminal,
    policy::{
        Observations,
        model::{Service, Target},
        registry::Registry,
        tools::Tools,
    },
};

/// The value of the JSON's `schema` key.
const SCHEMA: &str = "egress-tracer/coverage/1";
/// How many points of the curve are printed.
const POINTS: usize = 10;
/// How many destinations that hang on one run are printed.
const SHOWN: usize = 20;

/// Reads everything, then prints.
pub(super) fn coverage(arguments: &Coverage) -> Result<(), Failure> {
    let chosen = evidence::chosen(&arguments.input, true)?;
    let workloads: Vec<Workload> = chosen
        .iter()
        .map(|observations| Workload::of(observations, arguments.target))
        .collect();
    let text = if arguments.json {
        let all = All {
            schema: SCHEMA,
            workloads,
        };
        harmless::pretty_json(&all).context("cannot write JSON")? + "\n"
    } else {
        workloads.iter().map(Workload::text).collect()
    };
    terminal::data(&text).context("cannot write to standard output")?;
    Ok(())
}

#[derive(Serialize)]
struct All {
    schema: &'static str,
    workloads: Vec<Workload>,
}

#[derive(Serialize)]
struct Workload {
    workload: String,
    complete: bool,
    #[serde(flatten)]
    coverage: coverage::Coverage,
    target: f64,
    /// Absent where nothing can be estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    further_runs: Option<u64>,
    /// Destinations whose records name no run, and which the estimates therefore leave out.
    without_run: u64,
    single_run: Vec<Single>,
    /// Tools by name, where the log tells them apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tools: BTreeMap<String, Tool>,
    /// Registered, and never called.
    #[serde(skip_serializing_if = "Uncalled::is_empty")]
    never_called: Uncalled,
}

/// What the runs have shown of one tool.
#[derive(Default, Serialize)]
struct Tool {
    destinations: u64,
    /// Of those, certainly its own.
    certain: u64,
    /// In which something went out for it.
    runs: u64,
}

#[derive(Serialize)]
struct Uncalled {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retrievers: Vec<String>,
}

impl Uncalled {
    fn of(registered: &Registry) -> Self {
        let never = |names| registered.never_called(names).cloned().collect();
        Self {
            tools: never(&registered.tools),
            models: never(&registered.models),
            retrievers: never(&registered.retrievers),
        }
    }

    fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.models.is_empty() && self.retrievers.is_empty()
    }
}

/// What went out for each tool, also where it may have been another's.
fn by_tool(observations: &Observations) -> BTreeMap<String, Tool> {
    let mut runs: BTreeMap<&str, BTreeSet<&Arc<str>>> = BTreeMap::new();
    let mut found: BTreeMap<String, Tool> = BTreeMap::new();
    for (_, seen) in observations.destinations() {
        for name in seen.tool.iter().flat_map(Tools::iter) {
            let tool = found.entry(name.to_owned()).or_default();
            tool.destinations += 1;
            tool.certain += u64::from(seen.tool.as_ref().and_then(Tools::only).is_some());
            runs.entry(name).or_default().extend(&seen.runs);
        }
    }
    for (name, runs) in runs {
        found.entry(name.to_owned()).or_default().runs = runs.len() as u64;
    }
    found
}

/// A destination that one run alone has shown.
#[derive(Serialize)]
struct Single {
    to: String,
    service: String,
    run: String,
}

/// In which runs each destination was seen: each name, or each address where no name is believed.
/// The addresses of a name are one destination; how they take turns says nothing about the
/// workload.
fn detected(observations: &Observations) -> BTreeMap<(Target, &Service), BTreeSet<&Arc<str>>> {
    let mut detected: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (destination, seen) in observations.destinations() {
        let names = seen
            .believed
            .iter()
            .map(|name| Target::Name(name.to_string()));
        let mut to: Vec<Target> = names.collect();
        if to.is_empty() {
            to.push(Target::Address(destination.ip));
        }
        for to in to {
            let runs = detected.entry((to, &destination.service)).or_default();
            runs.extend(&seen.runs);
        }
    }
    detected
}

impl Workload {
    fn of(observations: &Observations, target: f64) -> Self {
        let detected = detected(observations);
        let detections: Vec<u64> = detected.values().map(|runs| runs.len() as u64).collect();
        let without_run = detections.iter().filter(|runs| **runs == 0).count() as u64;
        let coverage = Incidence::new(observations.runs() as u64, detections).coverage();
        let single_run =
            detected
                .iter()
                .filter(|(_, runs)| runs.len() == 1)
                .map(|((to, service), runs)| Single {
                    to: to.to_string(),
                    service: service.to_string(),
                    run: runs.iter().map(ToString::to_string).collect(),
                });
        Self {
            workload: observations.workload().to_owned(),
            complete: observations.incomplete().is_empty(),
            further_runs: coverage.further_runs(target),
            coverage,
            target,
            without_run,
            single_run: single_run.collect(),
            tools: by_tool(observations),
            never_called: Uncalled::of(observations.registered()),
        }
    }

    fn text(&self) -> String {
        let coverage = &self.coverage;
        let mut lines = vec![format!(
            "{}: {} destinations in {} run(s)",
            self.workload, coverage.destinations, coverage.runs
        )];
        lines.push(match coverage.unseen_share {
            Some(share) => format!(
                "  unseen share         {:.1} % of what a further run does is new",
                share * 100.0
            ),
            None => "  unseen share         unknown: nothing was seen".to_owned(),
        });
        lines.extend(self.estimate_lines());
        lines.push(format!(
            "  seen in              one run: {}, two runs: {}",
            coverage.in_one_run, coverage.in_two_runs
        ));
        lines.extend(curve_lines(&coverage.curve));
        if self.without_run > 0 {
            lines.push(format!(
                "  left out             {} destination(s) whose records name no run",
                self.without_run
            ));
        }
        lines.extend(self.single_lines());
        lines.extend(self.tool_lines());
        lines
            .iter()
            .map(|line| terminal::escape(line) + "\n")
            .collect()
    }

    fn estimate_lines(&self) -> Vec<String> {
        let Some(estimate) = self.coverage.estimate else {
            let why = "unknown: one run says nothing about others";
            return vec![format!("  unseen destinations  {why}")];
        };
        let unseen = format!(
            "  unseen destinations  about {:.1}, 95 % interval {} to {}",
            estimate.unseen, estimate.unseen_low, estimate.unseen_high
        );
        let further = match self.further_runs {
            Some(0) => "reached".to_owned(),
            Some(runs) => format!("about {runs} further run(s)"),
            None => "unknown".to_owned(),
        };
        let target = format!(
            "  to see {:<13} {further}",
            format!("{} %", self.target * 100.0)
        );
        vec![unseen, target]
    }

    fn tool_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, tool) in self.tools.iter().take(SHOWN) {
            let Tool {
                destinations,
                certain,
                runs,
            } = tool;
            lines.push(format!(
                "  tool {name}: {destinations} destination(s), {certain} certainly its own, in {runs} run(s)"
            ));
        }
        if let Some(more) = self.tools.len().checked_sub(SHOWN + 1) {
            lines.push(format!("  and {} more tools", more + 1));
        }
        let Uncalled {
            tools,
            models,
            retrievers,
        } = &self.never_called;
        for (kind, names) in [
            ("tools", tools),
            ("models", models),
            ("retrievers", retrievers),
        ] {
            if !names.is_empty() {
                let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
                let more = match names.len().saturating_sub(SHOWN) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                lines.push(format!("  {kind} never called: {}{more}", shown.join(", ")));
            }
        }
        lines
    }

    fn single_lines(&self) -> Vec<String> {
        if self.single_run.is_empty() {
            return Vec::new();
        }
        let mut lines = vec!["  in one run only:".to_owned()];
        for Single { to, service, run } in self.single_run.iter().take(SHOWN) {
            lines.push(format!("    {to} {service}  ({run})"));
        }
        if let Some(more) = self.single_run.len().checked_sub(SHOWN + 1) {
            lines.push(format!("    and {} more", more + 1));
        }
        lines
    }
}

/// A few points of the curve, evenly spread, the last among them.
fn curve_lines(curve: &[Point]) -> Vec<String> {
    let step = curve.len().div_ceil(POINTS).max(1);
    let is_shown = |at: &usize| (at + 1).is_multiple_of(step) || at + 1 == curve.len();
    let points: Vec<String> = curve
        .iter()
        .enumerate()
        .filter(|(at, _)| is_shown(at))
        .map(|(_, point)| format!("{}: {:.1}", point.runs, point.destinations))
        .collect();
    if points.is_empty() {
        return Vec::new();
    }
    vec![format!("  destinations by runs {}", points.join(", "))]
}
