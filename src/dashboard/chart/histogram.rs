//! Counts of durations in bins whose width doubles.

use maud::{Markup, html};

use super::scale::{ACROSS, DoublingAxis, HEIGHT, LEFT, PLOT, TOP, column_labels, label, sound};
use super::{drawing, unit};
use crate::dashboard::words;

/// A bin, and the list of its pull requests.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct HistogramBar {
    pub(in crate::dashboard) from_hours: f64,
    /// Not in the bin itself.
    pub(in crate::dashboard) to_hours: f64,
    pub(in crate::dashboard) count: u64,
    pub(in crate::dashboard) address: String,
}

/// Draws the bins, and percentiles by their name as lines over them.
pub(in crate::dashboard) fn histogram(
    title: &str,
    bars: &[HistogramBar],
    percentiles: &[(&str, Option<f64>)],
) -> Markup {
    let percentiles = percentiles.iter().filter_map(|(name, hours)| {
        let hours = hours.filter(|hours| hours.is_finite())?;
        Some((*name, hours))
    });
    let percentiles: Vec<_> = percentiles.collect();
    let marked = percentiles.iter().map(|(_, hours)| *hours);
    let axis = DoublingAxis::of(bars.iter().map(|bar| bar.to_hours).chain(marked));
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let ends: Vec<_> = bars.iter().map(|bar| label(bar.to_hours)).collect();
    let content = html! {
        line .axis x1=(unit(LEFT)) x2=(unit(LEFT + ACROSS)) y1=(unit(TOP + PLOT)) y2=(unit(TOP + PLOT)) {}
        @for bar in bars.iter().filter(|bar| bar.count > 0) { (drawn(bar, axis, most)) }
        (column_labels(ends.iter().map(String::as_str)))
        @for (place, (name, hours)) in percentiles.iter().enumerate() {
            @let x = LEFT + axis.share(*hours) * ACROSS;
            line .line x1=(unit(x)) x2=(unit(x)) y1=(unit(TOP)) y2=(unit(TOP + PLOT)) {}
            // Two that are close stand below each other.
            text x=(unit(x + 4.0)) y=(unit(if place % 2 == 0 { 12.0 } else { TOP + 12.0 })) {
                (name) " " (words::hours(Some(*hours))) " h"
            }
        }
    };
    drawing(title, HEIGHT, &content)
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn drawn(bar: &HistogramBar, axis: DoublingAxis, most: u64) -> Markup {
    let [from, to] = [bar.from_hours, bar.to_hours].map(|hours| axis.share(sound(hours)) * ACROSS);
    // A narrow gap between bars, where there is room for one.
    let width = (to - from - 2.0).max((to - from) / 2.0).max(0.0);
    let height = bar.count as f64 / most as f64 * (PLOT - 20.0);
    let words = format!(
        "{} of {} to {}",
        words::counted(bar.count, "pull request"),
        label(bar.from_hours),
        label(bar.to_hours)
    );
    html! {
        a href=(bar.address) aria-label=(words) {
            title { (words) }
            rect .bar x=(unit(LEFT + from)) y=(unit(TOP + PLOT - height)) width=(unit(width))
                height=(unit(height)) {}
            text x=(unit(LEFT + from + width / 2.0)) y=(unit(TOP + PLOT - height - 4.0))
                text-anchor="middle" { (words::grouped(bar.count)) }
        }
    }
}
