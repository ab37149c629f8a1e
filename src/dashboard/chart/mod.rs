//! Charts as SVG: pure functions from numbers to markup, without a script.
//!
//! A chart never stacks percentiles, and is drawn from disjoint segments only. Colours have words or
//! an order beside them, and each chart stands beside a table of the same numbers.

mod histogram;
mod lines;
mod mini_bar;
mod scale;
mod scatter;
mod stacked;
mod stage_bar;
#[cfg(test)]
mod tests;

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;

pub(super) use self::histogram::{HistogramBar, histogram};
pub(super) use self::lines::{ChartLine, lines};
pub(super) use self::mini_bar::mini_bar;
pub(super) use self::scatter::{ScatterDot, scatter};
pub(super) use self::stacked::{StackedBar, means, stacked};
pub(super) use self::stage_bar::{BarMark, BarMode, BarSegment, StageBar, stage_bar};
use crate::dashboard::words;

/// The width of every chart in its own units; the page scales it.
const WIDTH: f64 = 960.0;

/// Returns the class that has the colour of a stage.
const fn stage_class(stage: Stage) -> &'static str {
    match stage {
        Stage::MergeWait => "merge-wait",
        stage => stage.as_str(),
    }
}

/// Returns the stages beside their colours, in the order in which bars are stacked.
pub(super) fn legend(stages: &[Stage]) -> Markup {
    html! {
        ul .legend {
            @for stage in stages {
                li {
                    span class={ "swatch " (stage_class(*stage)) } aria-hidden="true" {}
                    (words::stage(*stage))
                }
            }
        }
    }
}

/// Returns a coordinate with one decimal; one that is no number is the origin.
fn unit(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    format!("{value:.1}")
}

/// Returns the whole chart. A chart with links is a group: an image has no links.
fn drawing(label: &str, height: f64, content: &Markup) -> Markup {
    html! {
        svg .chart role="group" aria-label=(label) viewBox=(format!("0 0 {WIDTH} {height}")) {
            (content)
        }
    }
}
