//! The stages of one pull request in the width of a cell.

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;

use super::scale::sound;
use super::unit;
use crate::dashboard::words;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 12.0;

/// Draws the hours of each stage to scale, side by side. One without a length is not drawn.
pub(in crate::dashboard) fn mini_bar(parts: &[(Stage, f64)]) -> Markup {
    let drawn = || parts.iter().filter(|(_, hours)| sound(*hours) > 0.0);
    let whole: f64 = drawn().map(|(_, hours)| hours).sum();
    let words: Vec<_> = drawn()
        .map(|(stage, hours)| format!("{} {hours:.2} h", words::stage(*stage)))
        .collect();
    let mut x = 0.0;
    html! {
        svg .mini role="img" aria-label=(words.join(", ")) width=(WIDTH) height=(HEIGHT)
            viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) {
            @for (stage, hours) in drawn() {
                @let width = hours / whole * WIDTH;
                @let begin = { x += width; x - width };
                rect class=(stage.as_str().replace('_', "-")) x=(unit(begin)) y="0" width=(unit(width)) height=(HEIGHT) {}
            }
        }
    }
}
