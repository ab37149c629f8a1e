//! Bars of parts that add up.

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;

use super::scale::{HEIGHT, HourAxis, PLOT, TOP, column_labels, columns, sound};
use super::{drawing, stage_class, unit};
use crate::api::{DurationSummary, Summary};
use crate::dashboard::words;

/// Returns the mean hours of each stage over all pull requests that count, which add up.
#[allow(clippy::cast_precision_loss, reason = "a count of pull requests")]
pub(in crate::dashboard) fn means(summary: &Summary) -> Vec<(Stage, f64)> {
    let stages = &summary.stages;
    let totals = [
        &stages.coding,
        &stages.pickup,
        &stages.review,
        &stages.merge_wait,
        &stages.redraft,
        &stages.closed,
    ];
    let mean = |total: &DurationSummary| {
        total.total_hours.unwrap_or_default() / summary.counted.max(1) as f64
    };
    let means = totals.into_iter().map(mean);
    Stage::ALL.iter().copied().zip(means).collect()
}

/// A bar: the mean hours of each stage, from its foot up.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct StackedBar {
    /// The stretch of time that it stands for, such as `03-16`.
    pub(in crate::dashboard) label: String,
    /// The number of pull requests, which stands above it.
    pub(in crate::dashboard) count: u64,
    /// The list of these pull requests.
    pub(in crate::dashboard) address: String,
    pub(in crate::dashboard) parts: Vec<(Stage, f64)>,
}

impl StackedBar {
    fn hours(&self) -> f64 {
        self.parts.iter().map(|(_, hours)| sound(*hours)).sum()
    }

    fn words(&self) -> String {
        let parts = self.parts.iter().filter(|(_, hours)| sound(*hours) > 0.0);
        let parts = parts.map(|(stage, hours)| format!("{} {hours:.2} h", words::stage(*stage)));
        format!(
            "{}: {}, {:.2} h each: {}",
            self.label,
            words::counted(self.count, "pull request"),
            self.hours(),
            parts.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Draws a bar for each stretch of time: a link to its pull requests.
pub(in crate::dashboard) fn stacked(label: &str, bars: &[StackedBar]) -> Markup {
    let axis = HourAxis::of(bars.iter().map(StackedBar::hours));
    let (middle, width) = columns(bars.len());
    let content = html! {
        (axis.grid())
        @for (column, bar) in bars.iter().enumerate() {
            (drawn(bar, axis, middle(column), width))
        }
        (column_labels(bars.iter().map(|bar| bar.label.as_str())))
    };
    drawing(label, HEIGHT, &content)
}

fn drawn(bar: &StackedBar, axis: HourAxis, middle: f64, place: f64) -> Markup {
    let width = (place * 0.7).min(48.0);
    let mut top = TOP + PLOT;
    let words = bar.words();
    html! {
        a href=(bar.address) aria-label=(words) {
            title { (words) }
            @for (stage, hours) in &bar.parts {
                @let height = axis.height(*hours);
                @if height > 0.0 {
                    @let y = { top -= height; top };
                    rect class=(stage_class(*stage)) x=(unit(middle - width / 2.0)) y=(unit(y))
                        width=(unit(width)) height=(unit(height)) {}
                }
            }
            text x=(unit(middle)) y=(unit(top - 4.0)) text-anchor="middle" {
                (words::grouped(bar.count))
            }
        }
    }
}
