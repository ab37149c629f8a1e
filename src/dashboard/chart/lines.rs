//! Percentiles over time, one line each.

use maud::{Markup, html};

use super::scale::{ACROSS, HEIGHT, HourAxis, LEFT, PLOT, TOP, column_labels, columns};
use super::{drawing, unit};
use crate::dashboard::words;

/// A line, whose name is also the class of its dashes: hours for each stretch of time, with gaps where they are not known.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct ChartLine {
    pub(in crate::dashboard) name: &'static str,
    pub(in crate::dashboard) hours: Vec<Option<f64>>,
}

/// Draws lines over stretches of time, which have these labels.
pub(in crate::dashboard) fn lines(title: &str, labels: &[String], drawn: &[ChartLine]) -> Markup {
    let known = drawn.iter().flat_map(|line| line.hours.iter().flatten());
    let axis = HourAxis::of(known.copied());
    let (middle, _) = columns(labels.len());
    let content = html! {
        (axis.grid())
        (column_labels(labels.iter().map(String::as_str)))
        @for (order, line) in drawn.iter().enumerate() {
            @let known = known_places(line, labels.len(), &middle, axis);
            @for part in known.chunk_by(|one, next| one.column + 1 == next.column) {
                polyline class={ "line " (line.name) } points=(points(part)) {}
            }
            @for place in &known {
                circle .dot cx=(unit(place.x)) cy=(unit(place.y)) r="3" {
                    title { (labels[place.column]) ", " (line.name) ": " (words::hours(Some(place.hours))) " h" }
                }
            }
            (name(line.name, order))
        }
    };
    drawing(title, HEIGHT, &content)
}

/// The place of one value.
struct LinePlace {
    column: usize,
    hours: f64,
    x: f64,
    y: f64,
}

fn known_places(
    line: &ChartLine,
    count: usize,
    middle: impl Fn(usize) -> f64,
    axis: HourAxis,
) -> Vec<LinePlace> {
    let known = line.hours.iter().take(count).enumerate();
    let places = known.filter_map(|(column, hours)| {
        let hours = hours.filter(|hours| hours.is_finite())?;
        Some(LinePlace {
            column,
            hours,
            x: middle(column),
            y: TOP + PLOT - axis.height(hours),
        })
    });
    places.collect()
}

fn points(places: &[LinePlace]) -> String {
    let points = places
        .iter()
        .map(|place| format!("{},{}", unit(place.x), unit(place.y)));
    points.collect::<Vec<_>>().join(" ")
}

/// Draws the name of a line beside a piece of it: lines may end at one height.
fn name(name: &str, order: usize) -> Markup {
    #[allow(clippy::cast_precision_loss, reason = "few lines")]
    let x = LEFT + ACROSS - 220.0 + 76.0 * order as f64;
    html! {
        line class={ "line " (name) } x1=(unit(x)) x2=(unit(x + 30.0)) y1="8" y2="8" {}
        text x=(unit(x + 35.0)) y="12" { (name) }
    }
}
