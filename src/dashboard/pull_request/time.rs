//! Where the time of a pull request went, to the second.

use maud::{Markup, html};
use tallyhook_core::domain::timings::{PullRequestState, Stage};
use tallyhook_core::github::types::Timestamp;

use super::super::chart::{self, BarMark, BarMode, BarSegment, StageBar};
use super::super::page::PageRequest;
use super::super::words;
use super::story;
use crate::api::{ExplainedStep, PullRequestDetail, StagesHours};

pub(super) fn section(page: &PageRequest, found: &PullRequestDetail) -> Markup {
    let known = &found.pull_request;
    let is_open = known.state == PullRequestState::Open;
    let segments = shown(found, is_open);
    html! {
        section #time {
            h2 { @if is_open { "Where its time went so far" } @else { "Where its time went" } }
            @if segments.is_empty() {
                p { "The times that GitHub gives of it cannot be right, so it has no durations." }
            } @else {
                (bar(page, found, &segments))
                (table(&segments, &found.explain.steps, is_open))
                (working_hours(found))
            }
        }
    }
}

/// Returns the segments, and among those of a pull request that ended the stages of no length.
fn shown(found: &PullRequestDetail, is_open: bool) -> Vec<BarSegment> {
    let segments = found.explain.segments.iter().map(|segment| BarSegment {
        stage: segment.stage,
        from: segment.from,
        to: segment.to,
    });
    let at_once = found.explain.steps.iter().map(|step| BarSegment {
        stage: step.stage,
        from: step.from,
        to: step.to,
    });
    let at_once = at_once.filter(|step| !is_open && step.from == step.to);
    let mut all: Vec<_> = segments.chain(at_once).collect();
    all.sort_by_key(|segment| (segment.from, segment.to));
    all
}

fn bar(page: &PageRequest, found: &PullRequestDetail, segments: &[BarSegment]) -> Markup {
    let known = &found.pull_request;
    let is_equal = page.parameter("bar") == Some("equal");
    let marks = story::marked(found).map(|(number, entry)| BarMark {
        number,
        at: entry.at,
        words: story::event_words(entry),
    });
    let bar = StageBar {
        segments: segments.to_vec(),
        marks: marks.collect(),
        mode: if is_equal {
            BarMode::Equal
        } else {
            BarMode::Scaled
        },
        is_running: known.state == PullRequestState::Open,
    };
    let address = page.links.pull_request(&known.repo, known.number);
    html! {
        (chart::stage_bar("Stages from the first to the last second; the table has the same", &bar))
        (chart::legend(&stages(segments)))
        p .actions {
            a href=(address) aria-current=[(!is_equal).then_some("true")] { "to scale" }
            a href={ (address) "?bar=equal" } aria-current=[is_equal.then_some("true")] { "equal steps" }
            small { "Numbers are those of the list below." }
        }
    }
}

/// Returns the stages that occur, in the order in which they first do.
fn stages(segments: &[BarSegment]) -> Vec<Stage> {
    let mut stages = Vec::new();
    for segment in segments {
        if !stages.contains(&segment.stage) {
            stages.push(segment.stage);
        }
    }
    stages
}

fn table(segments: &[BarSegment], steps: &[ExplainedStep], is_open: bool) -> Markup {
    html! {
        table {
            caption #sum { (sum(segments, is_open)) }
            thead {
                tr {
                    th scope="col" { "Stage" }
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                    th scope="col" .num { "Hours" }
                    th scope="col" .hide { "Because" }
                }
            }
            tbody {
                @for (place, segment) in segments.iter().enumerate() {
                    tr {
                        th scope="row" { (words::stage(segment.stage)) }
                        td { (words::time(segment.from)) }
                        td {
                            @if is_open && place + 1 == segments.len() { "now" }
                            @else { (words::time(segment.to)) }
                        }
                        td .num { (words::hours_of(segment.seconds())) }
                        td .hide { bdi { (because(segment, steps)) } }
                    }
                }
            }
        }
    }
}

/// Returns the hours of each stage as a sum, and the proof that no second is left over.
fn sum(segments: &[BarSegment], is_open: bool) -> String {
    let seconds = |stage: Stage| -> i64 {
        let of_stage = segments.iter().filter(|segment| segment.stage == stage);
        of_stage.map(BarSegment::seconds).sum()
    };
    let stages = stages(segments);
    let parts = stages.iter().map(|stage| {
        let hours = words::hours_of(seconds(*stage));
        format!("{} {hours}", words::stage(*stage))
    });
    let whole: i64 = segments.iter().map(BarSegment::seconds).sum();
    let between = between(segments).map_or(0, |(from, to)| to.epoch() - from.epoch());
    let exact = match between - whole {
        0 => "to the second".to_owned(),
        left => format!("and {left} s in no stage"),
    };
    let so_far = if is_open { " so far" } else { "" };
    format!(
        "{} = {} h{so_far}, {exact}",
        parts.collect::<Vec<_>>().join(" + "),
        words::hours_of(whole)
    )
}

fn between(segments: &[BarSegment]) -> Option<(Timestamp, Timestamp)> {
    Some((segments.first()?.from, segments.last()?.to))
}

/// Returns the reason of the step that a segment is a part of.
fn because<'a>(segment: &BarSegment, steps: &'a [ExplainedStep]) -> &'a str {
    let mut steps = steps.iter().filter(|step| step.stage == segment.stage);
    let within = steps.find(|step| step.from <= segment.from && segment.to <= step.to);
    within.map_or("", |step| step.because.as_str())
}

/// Returns the stages by both clocks, where its repository has a calendar.
fn working_hours(found: &PullRequestDetail) -> Markup {
    let known = &found.pull_request;
    let business = &known.business;
    let (Some(calendar), Some(working)) = (&business.calendar, &business.stages_business) else {
        return html! {};
    };
    html! {
        table .plain {
            caption { "By the clock, and in the working hours of " bdi { (calendar.name) } }
            thead {
                tr {
                    th scope="col" { "Stage" }
                    th scope="col" .num { "Hours" }
                    th scope="col" .num { "Working hours" }
                }
            }
            tbody {
                @for (stage, hours, working) in by_stage(&known.stages, working) {
                    tr {
                        th scope="row" { (words::stage(stage)) }
                        td .num { (words::hours(hours)) }
                        td .num { (words::hours(working)) }
                    }
                }
                tr {
                    th scope="row" { "cycle time" }
                    td .num { (words::hours(known.cycle_time_hours)) }
                    td .num { (words::hours(business.cycle_time_business_hours)) }
                }
            }
        }
    }
}

/// Returns the stages that occurred with their hours by both clocks.
fn by_stage(
    hours: &StagesHours,
    working: &StagesHours,
) -> impl Iterator<Item = (Stage, Option<f64>, Option<f64>)> {
    let all = [
        (Stage::Coding, hours.coding_hours, working.coding_hours),
        (Stage::Pickup, hours.pickup_hours, working.pickup_hours),
        (Stage::Review, hours.review_hours, working.review_hours),
        (
            Stage::MergeWait,
            hours.merge_wait_hours,
            working.merge_wait_hours,
        ),
        (Stage::Redraft, hours.redraft_hours, working.redraft_hours),
        (Stage::Closed, hours.closed_hours, working.closed_hours),
    ];
    all.into_iter().filter(|(_, hours, _)| hours.is_some())
}
