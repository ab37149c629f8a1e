//! The time of one pull request: its stages side by side, and what happened as numbered marks.

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::github::types::Timestamp;

use super::{WIDTH, drawing, stage_class, unit};
use crate::dashboard::words;

const HEIGHT: f64 = 112.0;
const TOP: f64 = 34.0;
const BAR: f64 = 34.0;
/// The room on each side, so that marks at the ends are inside.
const SIDE: f64 = 12.0;
const ACROSS: f64 = WIDTH - 2.0 * SIDE;
/// The width that the number of a mark wants.
const MARK: f64 = 18.0;
/// The width from which on a segment has room for its name.
const NAMED: f64 = 76.0;

/// The widths of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dashboard) enum BarMode {
    /// In proportion to their time.
    #[default]
    Scaled,
    /// One width for all.
    Equal,
}

/// A stretch of time in one stage.
#[derive(Clone, Copy, Debug)]
pub(in crate::dashboard) struct BarSegment {
    pub(in crate::dashboard) stage: Stage,
    pub(in crate::dashboard) from: Timestamp,
    pub(in crate::dashboard) to: Timestamp,
}

/// Something that happened, by its number in the list.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct BarMark {
    pub(in crate::dashboard) number: usize,
    pub(in crate::dashboard) at: Timestamp,
    pub(in crate::dashboard) words: String,
}

/// The bar of one pull request. Its segments are disjoint and in order.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct StageBar {
    pub(in crate::dashboard) segments: Vec<BarSegment>,
    pub(in crate::dashboard) marks: Vec<BarMark>,
    pub(in crate::dashboard) mode: BarMode,
    /// The last segment lasts, up to now.
    pub(in crate::dashboard) is_running: bool,
}

impl BarSegment {
    pub(in crate::dashboard) fn seconds(&self) -> i64 {
        (self.to.epoch() - self.from.epoch()).max(0)
    }
}

impl StageBar {
    /// Returns the begin and the width of each segment, which together fill the bar.
    #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
    pub(super) fn spans(&self) -> Vec<(f64, f64)> {
        let whole: i64 = self.segments.iter().map(BarSegment::seconds).sum();
        let count = self.segments.len().max(1) as f64;
        let mut x = SIDE;
        let spans = self.segments.iter().map(|segment| {
            let share = match (self.mode, whole) {
                (BarMode::Equal, _) | (_, 0) => 1.0 / count,
                _ => segment.seconds() as f64 / whole as f64,
            };
            let begin = x;
            x += share * ACROSS;
            (begin, share * ACROSS)
        });
        spans.collect()
    }

    /// Returns the place of a time: within the first segment that has it.
    #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
    fn place(&self, at: Timestamp, spans: &[(f64, f64)]) -> f64 {
        let mut segments = self.segments.iter().zip(spans);
        let Some((segment, (begin, width))) = segments.find(|(segment, _)| at <= segment.to) else {
            return SIDE + ACROSS;
        };
        let before = (at.epoch() - segment.from.epoch()).max(0) as f64;
        let share = match segment.seconds() {
            0 => 0.0,
            seconds => before / seconds as f64,
        };
        begin + share * width
    }

    /// Returns the place of each mark, and that of its number, which has room for itself.
    #[allow(clippy::cast_precision_loss, reason = "a chart has few marks")]
    pub(super) fn mark_places(&self) -> Vec<(f64, f64)> {
        let spans = self.spans();
        let places = self.marks.iter().map(|mark| self.place(mark.at, &spans));
        let places: Vec<_> = places.collect();
        let room = MARK.min(ACROSS / places.len().max(1) as f64);
        let mut numbers = places.clone();
        for mark in 1..numbers.len() {
            numbers[mark] = numbers[mark].max(numbers[mark - 1] + room);
        }
        // Those pushed over the end push back those before them.
        let mut end = SIDE + ACROSS;
        for number in numbers.iter_mut().rev() {
            *number = number.min(end);
            end = *number - room;
        }
        places.into_iter().zip(numbers).collect()
    }
}

/// Draws the bar of a pull request.
pub(in crate::dashboard) fn stage_bar(title: &str, bar: &StageBar) -> Markup {
    let spans = bar.spans();
    let last = bar.segments.len().checked_sub(1).filter(|_| bar.is_running);
    // Below this width numbers would lie over each other.
    let is_numbered = bar.mark_places().len() <= 48;
    let content = html! {
        @if last.is_some() { (hatching()) }
        @for (place, (segment, (x, width))) in bar.segments.iter().zip(&spans).enumerate() {
            (drawn(segment, *x, *width, last == Some(place)))
        }
        @for (mark, (x, number)) in bar.marks.iter().zip(bar.mark_places()) {
            g {
                title { (mark.number) ": " (mark.words) }
                polyline .axis points=(format!("{},{} {},{} {},18", unit(x), unit(TOP + BAR), unit(x), unit(TOP - 4.0), unit(number))) {}
                @if is_numbered {
                    text x=(unit(number)) y="14" text-anchor="middle" { (mark.number) }
                }
            }
        }
        @if let (Some(first), Some(end)) = (bar.segments.first(), bar.segments.last()) {
            text .quiet x=(unit(SIDE)) y=(unit(HEIGHT - 8.0)) { (words::minute(first.from)) }
            text .quiet x=(unit(SIDE + ACROSS)) y=(unit(HEIGHT - 8.0)) text-anchor="end" {
                @if bar.is_running { "now" } @else { (words::minute(end.to)) }
            }
        }
    };
    drawing(title, HEIGHT, &content)
}

fn drawn(segment: &BarSegment, x: f64, width: f64, is_running: bool) -> Markup {
    let (class, name) = (stage_class(segment.stage), words::stage(segment.stage));
    let title = format!("{name}, {}", words::span(segment.seconds()));
    // One of no length is a tick: as wide as it takes to be seen.
    let (x, width, more) = match segment.seconds() {
        0 => (x - 1.5, 3.0, 3.0),
        _ => (x, width, 0.0),
    };
    let (y, height) = (TOP - more, BAR + 2.0 * more);
    html! {
        g {
            title { (title) }
            rect class=(class) x=(unit(x)) y=(unit(y)) width=(unit(width)) height=(unit(height)) {}
            @if is_running {
                rect x=(unit(x)) y=(unit(y)) width=(unit(width)) height=(unit(height))
                    fill="url(#hatching)" {}
            }
            @if width >= NAMED {
                text x=(unit(x + width / 2.0)) y=(unit(TOP + BAR + 15.0)) text-anchor="middle" {
                    (name)
                }
            }
        }
    }
}

/// Defines the pattern of the segment that lasts.
fn hatching() -> Markup {
    html! {
        defs {
            pattern #hatching width="8" height="8" patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)" {
                rect width="3" height="8" fill="#fff" fill-opacity="0.5" {}
            }
        }
    }
}
