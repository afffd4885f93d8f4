//! The ratios as a chart: the daemon's against their goals, and beside what people would use instead.

use anyhow::{Result, anyhow, bail};
use plotters::{
    coord::types::RangedCoordf64,
    prelude::{
        BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, DrawingArea, DrawingAreaErrorKind,
        IntoDrawingArea as _, PathElement, RED, RGBColor, SVGBackend, Text, WHITE,
    },
    style::Color as _,
};
use serde_json::Value;

use super::figure::call;

const WIDTH: u32 = 860;
const ROW: u32 = 34;
/// Title, axis and margins of a panel.
const AROUND: u32 = 90;
const INK: RGBColor = RGBColor(31, 93, 150);

/// A ratio, and where it lies.
struct Bar {
    name: String,
    low: f64,
    ratio: f64,
    high: f64,
    goal: Option<f64>,
    tool: Option<String>,
}

/// A part of the picture.
struct Panel<'a> {
    title: &'a str,
    bars: Vec<&'a Bar>,
    /// Where a ratio lies on the axis, and the way back.
    place: fn(f64) -> f64,
    ratio: fn(f64) -> f64,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An SVG of these figures, as `--json` writes them.
pub(super) fn draw(figures: &[Value]) -> Result<String> {
    let bars: Vec<Bar> = figures.iter().filter_map(bar).collect();
    let panels = panels(&bars);
    if panels.is_empty() {
        bail!("no ratio among these figures");
    }
    let heights = panels.iter().map(Panel::height);
    let mut svg = String::new();
    let size = (WIDTH, heights.sum());
    let mut rest = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    rest.fill(&WHITE).map_err(failed)?;
    for panel in &panels {
        let (area, below) = rest.split_vertically(panel.height());
        panel.draw(&area)?;
        rest = below;
    }
    rest.present().map_err(failed)?;
    drop(rest);
    Ok(svg)
}

fn bar(figure: &Value) -> Option<Bar> {
    let values = &figure["values"];
    let number = |key: &str| values[key].as_f64();
    Some(Bar {
        name: call(figure)?.to_owned(),
        low: number("low")?,
        ratio: number("ratio")?,
        high: number("high")?,
        goal: number("goal"),
        tool: values["tool"].as_str().map(str::to_owned),
    })
}

fn panels(bars: &[Bar]) -> Vec<Panel<'_>> {
    let of_tool = |call: &str| {
        bars.iter()
            .any(|bar| bar.tool.is_some() && bar.name == call)
    };
    let compared = |bar: &&Bar| bar.tool.is_some() || of_tool(&bar.name);
    let panels = [
        Panel {
            title: "Traced by the daemon: time of a call, untraced = 1; red: the goal",
            bars: bars.iter().filter(|bar| bar.goal.is_some()).collect(),
            place: |ratio| ratio,
            ratio: |place| place,
        },
        Panel {
            title: "Beside what people would use instead (logarithmic)",
            bars: bars.iter().filter(compared).collect(),
            place: f64::log10,
            ratio: |place| 10_f64.powf(place),
        },
    ];
    let filled = panels.into_iter().filter(|panel| !panel.bars.is_empty());
    filled.collect()
}

impl Panel<'_> {
    fn height(&self) -> u32 {
        AROUND + ROW * self.bars.len() as u32
    }

    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let ends = self.bars.iter().flat_map(|bar| [Some(bar.high), bar.goal]);
        let most = ends.flatten().fold(1.05, f64::max);
        let left = (self.place)(0.97);
        let right = (self.place)(most * 1.02);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(28)
            .build_cartesian_2d(left..right, 0.0..self.bars.len() as f64)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(8)
            .x_label_formatter(&|place| format!("× {:.2}", (self.ratio)(*place)))
            .draw()
            .map_err(failed)?;
        for (row, bar) in self.bars.iter().rev().enumerate() {
            self.draw_bar(&mut chart, row as f64, left, bar)?;
        }
        Ok(())
    }

    fn draw_bar(&self, chart: &mut Chart<'_, '_>, row: f64, left: f64, bar: &Bar) -> Result<()> {
        let [low, ratio, high] = [bar.low, bar.ratio, bar.high].map(self.place);
        let at = row + 0.3;
        let line = |x: f64, y: f64, to_x: f64, to_y: f64, style| {
            PathElement::new([(x, y), (to_x, to_y)], style)
        };
        let mut lines = vec![
            line(left, at, low, at, BLACK.mix(0.1).stroke_width(1)),
            line(low, at, high, at, INK.stroke_width(3)),
        ];
        if let Some(goal) = bar.goal.map(self.place) {
            lines.push(line(goal, row + 0.1, goal, row + 0.5, RED.stroke_width(2)));
        }
        chart.draw_series(lines).map_err(failed)?;
        let dot = Circle::new((ratio, at), 4, INK.filled());
        chart.draw_series([dot]).map_err(failed)?;
        let text = Text::new(bar.spelled(), (left, row + 0.92), ("sans-serif", 13));
        chart.draw_series([text]).map(drop).map_err(failed)
    }
}

impl Bar {
    fn spelled(&self) -> String {
        let who = self.tool.as_deref().unwrap_or("egress-tracer");
        format!("{who}: {} × {:.2}", self.name, self.ratio)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::{fs, path::Path};

    use serde_json::json;

    use super::*;

    #[test]
    fn every_ratio_is_drawn_and_nothing_else() {
        let figures = [
            json!({ "name": "sendto, 30 pairs",
                "values": { "low": 1.1, "ratio": 1.2, "high": 1.3, "goal": 1.25 } }),
            json!({ "name": "strace: sendto, 30 pairs",
                "values": { "tool": "strace", "low": 40.0, "ratio": 41.0, "high": 42.0 } }),
            json!({ "name": "memory", "values": { "mib": 28.0 } }),
        ];
        let svg = draw(&figures).unwrap();
        assert!(svg.starts_with("<svg"));
        // In both panels, and in one.
        assert_eq!(svg.matches("egress-tracer: sendto × 1.20").count(), 2);
        assert_eq!(svg.matches("strace: sendto × 41.00").count(), 1);
        assert!(draw(&figures[2..]).is_err());
    }

    /// The picture in the documentation is of the figures beside it: `cargo xtask bench --from
    /// docs/bench.json --chart docs/bench.svg`.
    #[test]
    fn the_documents_picture_shows_the_documents_figures() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let figures = super::super::gate::read(&docs.join("bench.json")).unwrap();
        let drawn = fs::read_to_string(docs.join("bench.svg")).unwrap();
        assert_eq!(drawn, draw(&figures).unwrap());
    }
}
