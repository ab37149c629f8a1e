//! Single pull requests by the time of their merge and a duration.

use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;

use super::scale::{ACROSS, DoublingAxis, HEIGHT, LEFT, PLOT, TOP};
use super::{drawing, unit};
use crate::dashboard::words;

/// One pull request.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct ScatterDot {
    /// Its repository and number, as `owner/name#7`.
    pub(in crate::dashboard) name: String,
    pub(in crate::dashboard) address: String,
    pub(in crate::dashboard) merged_at: Timestamp,
    pub(in crate::dashboard) hours: f64,
}

/// Draws a dot for each pull request: a link to its page.
pub(in crate::dashboard) fn scatter(title: &str, dots: &[ScatterDot]) -> Markup {
    let dots = || dots.iter().filter(|dot| dot.hours.is_finite());
    let axis = DoublingAxis::of(dots().map(|dot| dot.hours));
    let times = dots().map(|dot| dot.merged_at);
    let ends = times.clone().min().zip(times.max());
    let content = html! {
        (axis.grid())
        @if let Some((first, last)) = ends {
            @for dot in dots() {
                @let x = LEFT + share(dot.merged_at, first, last) * ACROSS;
                @let y = TOP + PLOT * (1.0 - axis.share(dot.hours));
                a href=(dot.address) {
                    title { (dot.name) ": " (words::hours(Some(dot.hours))) " h" }
                    circle .dot cx=(unit(x)) cy=(unit(y)) r="4" {}
                }
            }
            text .quiet x=(unit(LEFT)) y=(unit(TOP + PLOT + 16.0)) { (words::day(first)) }
            text .quiet x=(unit(LEFT + ACROSS)) y=(unit(TOP + PLOT + 16.0)) text-anchor="end" {
                (words::day(last))
            }
        }
    };
    drawing(title, HEIGHT, &content)
}

/// Returns the part of a range that lies before `at`; one half in a range of one second.
#[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
fn share(at: Timestamp, first: Timestamp, last: Timestamp) -> f64 {
    match last.epoch() - first.epoch() {
        0 => 0.5,
        whole => (at.epoch() - first.epoch()) as f64 / whole as f64,
    }
}
