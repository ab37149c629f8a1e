//! Scales of hours: a linear one with round steps, and one whose units double.

use maud::{Markup, html};

use super::{WIDTH, unit};
use crate::dashboard::words;

/// The height of the part of a chart that has an axis of hours.
pub(super) const PLOT: f64 = 180.0;
/// The room above it, for numbers.
pub(super) const TOP: f64 = 20.0;
/// The room on the left of it, for the labels of the axis.
pub(super) const LEFT: f64 = 70.0;
/// The room on the right of it, for the names of lines.
pub(super) const RIGHT: f64 = 40.0;
/// The height of a chart with two lines of labels below it.
pub(super) const HEIGHT: f64 = TOP + PLOT + 36.0;
/// The width of the part between the rooms.
pub(super) const ACROSS: f64 = WIDTH - LEFT - RIGHT;
/// The most lines of a grid.
const STEPS: f64 = 5.0;
/// The first unit of the doubling scale, in hours: a quarter.
const FIRST: f64 = 0.25;

/// Steps that people count hours in.
const ROUND_STEPS: [f64; 15] = [
    1.0 / 60.0,
    5.0 / 60.0,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    12.0,
    24.0,
    48.0,
    96.0,
    168.0,
    336.0,
    672.0,
];

/// An axis of hours from 0 on.
#[derive(Clone, Copy, Debug)]
pub(super) struct HourAxis {
    step: f64,
    steps: u32,
}

impl HourAxis {
    /// Returns the axis that has room for all of these; those that are no numbers need none.
    pub(super) fn of(hours: impl IntoIterator<Item = f64>) -> Self {
        let most = hours.into_iter().map(sound).fold(0.0, f64::max);
        let fits = |step: &f64| *step * STEPS >= most;
        let mut step = ROUND_STEPS.into_iter().find(fits).unwrap_or(672.0);
        while !fits(&step) {
            step *= 2.0;
        }
        let mut steps = 1;
        while step * f64::from(steps) < most {
            steps += 1;
        }
        Self { step, steps }
    }

    /// Returns the height of hours above the axis.
    pub(super) fn height(self, hours: f64) -> f64 {
        sound(hours) / (self.step * f64::from(self.steps)) * PLOT
    }

    /// Draws the lines of the axis and their hours.
    pub(super) fn grid(self) -> Markup {
        let marks = (0..=self.steps).map(|number| self.step * f64::from(number));
        html! { @for hours in marks { (grid_line(self.height(hours), hours)) } }
    }
}

/// An axis whose units double: the first is a quarter of an hour, as in distributions.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoublingAxis {
    units: u32,
}

impl DoublingAxis {
    /// Returns the axis that has room for all of these.
    pub(super) fn of(hours: impl IntoIterator<Item = f64>) -> Self {
        let most = hours.into_iter().map(doubling).fold(1.0, f64::max);
        let mut units = 1;
        while f64::from(units) < most {
            units += 1;
        }
        Self { units }
    }

    /// Returns the part of the axis that lies before these hours.
    pub(super) fn share(self, hours: f64) -> f64 {
        doubling(hours) / f64::from(self.units)
    }

    /// Draws the lines of the axis and their hours, with the axis standing upright.
    pub(super) fn grid(self) -> Markup {
        let every = self.units.div_ceil(6);
        let marks = (0..=self.units).filter(|number| number % every == 0);
        html! {
            @for number in marks {
                (grid_line(f64::from(number) / f64::from(self.units) * PLOT, hours_at(number)))
            }
        }
    }
}

/// Returns the units of the doubling scale that lie before these hours.
fn doubling(hours: f64) -> f64 {
    let quarters = sound(hours) / FIRST;
    if quarters < 1.0 {
        quarters
    } else {
        1.0 + quarters.log2()
    }
}

/// Returns the hours at the end of so many units of the doubling scale.
fn hours_at(units: u32) -> f64 {
    match units {
        0 => 0.0,
        units => FIRST * 2_f64.powi(i32::try_from(units - 1).unwrap_or(i32::MAX)),
    }
}

/// Returns hours that can be drawn: none for what is no number or is negative.
pub(super) fn sound(hours: f64) -> f64 {
    if hours.is_finite() {
        hours.max(0.0)
    } else {
        0.0
    }
}

/// Returns hours as the labels of axes have them.
#[allow(clippy::cast_possible_truncation, reason = "saturates")]
pub(super) fn label(hours: f64) -> String {
    match (sound(hours) * 3600.0).round() as i64 {
        0 => "0".to_owned(),
        seconds => words::span(seconds),
    }
}

fn grid_line(height: f64, hours: f64) -> Markup {
    let y = TOP + PLOT - height;
    html! {
        line .grid x1=(unit(LEFT)) x2=(unit(LEFT + ACROSS)) y1=(unit(y)) y2=(unit(y)) {}
        text .quiet x=(unit(LEFT - 6.0)) y=(unit(y + 4.0)) text-anchor="end" { (label(hours)) }
    }
}

/// Returns the middle of the place of each of `count` columns, and the width of a place.
pub(super) fn columns(count: usize) -> (impl Fn(usize) -> f64, f64) {
    #[allow(clippy::cast_precision_loss, reason = "a chart has few columns")]
    let width = ACROSS / count.max(1) as f64;
    #[allow(clippy::cast_precision_loss, reason = "a chart has few columns")]
    let middle = move |column: usize| LEFT + width * (column as f64 + 0.5);
    (middle, width)
}

/// Draws labels below columns: as many as there is room for.
pub(super) fn column_labels<'a>(labels: impl ExactSizeIterator<Item = &'a str>) -> Markup {
    let count = labels.len();
    let (middle, _) = columns(count);
    let every = count.div_ceil(12).max(1);
    html! {
        @for (column, label) in labels.enumerate().filter(|(column, _)| column % every == 0) {
            text .quiet x=(unit(middle(column))) y=(unit(TOP + PLOT + 16.0)) text-anchor="middle" { (label) }
        }
    }
}
