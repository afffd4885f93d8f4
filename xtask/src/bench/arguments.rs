//! `Arguments`: what can be asked of `cargo xtask bench`; `Files`: those that it names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::{chart, rig::Sizes};

/// Flags of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The sizes of the published figures: half an hour, 3 GB of disk
    #[arg(long)]
    pub(super) full: bool,

    /// Pairs of samples for each ratio of the tracer's own, in place of the size's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(5..))]
    pub(super) pairs: Option<u16>,

    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the ratios into this file, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,

    /// Measure nothing: draw the figures that --json has written to this file
    #[arg(long, value_name = "FILE", requires = "chart")]
    from: Option<PathBuf>,

    /// Fail when a call costs more than in this file, which --json has written, and not when a goal
    /// is missed; measures costs alone, unless --only says otherwise
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,

    /// Only measurements whose name contains this: cost, others, packets, storm, memory, one-shot, flood,
    /// lines, captures, diff, names, marks
    #[arg(long, value_name = "WORD")]
    only: Option<String>,

    /// The build is done: set when this program calls itself through sudo
    #[arg(long, hide = true)]
    pub(super) built: bool,
}

impl Arguments {
    /// The sizes that are asked for.
    pub(super) fn sizes(&self) -> Sizes {
        let mut sizes = if self.full {
            Sizes::FULL
        } else {
            Sizes::REDUCED
        };
        sizes.pairs = self.pairs.map_or(sizes.pairs, usize::from);
        sizes
    }

    /// What the names of measurements must contain.
    pub(super) fn only(&self) -> &str {
        match &self.only {
            Some(word) => word,
            None if self.check.is_some() => "cost",
            None => "",
        }
    }
}

/// The files that are named, from wherever this is run.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) json: Option<PathBuf>,
    pub(super) chart: Option<PathBuf>,
    pub(super) from: Option<PathBuf>,
    pub(super) check: Option<PathBuf>,
}

impl Files {
    pub(super) fn of(arguments: &Arguments, callers: &Path) -> Self {
        let at = |path: &Option<PathBuf>| path.as_ref().map(|path| callers.join(path));
        Self {
            json: at(&arguments.json),
            chart: at(&arguments.chart),
            from: at(&arguments.from),
            check: at(&arguments.check),
        }
    }

    /// Draws the chart, if one is wanted.
    pub(super) fn draw(&self, figures: &[Value]) -> Result<()> {
        let Some(path) = &self.chart else {
            return Ok(());
        };
        fs::write(path, chart::draw(figures)?).with_context(|| path.display().to_string())
    }
}
