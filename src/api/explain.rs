//! The derivation of the numbers of one pull request, in words and steps.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::timings::{Flag, PullRequestState, Stage, StageSegment, Step, Timings};
use tallyhook_core::domain::waiting::Turns;
use tallyhook_core::github::types::{PrNumber, Timestamp};
use utoipa::ToSchema;

use super::explained_turns::{ExplainedTurn, ReviewPairItem, ReviewRoundItem};
use super::pull_requests::{ReadContext, hours};

/// The derivation of the numbers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Explanation)]
pub struct NumbersExplanation {
    pub text: String,
    pub steps: Vec<ExplainedStep>,
    /// The time of the pull request, each second in one stage, in order and without a gap: up to its
    /// end, or up to now while it is open.
    pub segments: Vec<ExplainedSegment>,
    /// Disjoint and in order, without a gap from the creation to the end or to now.
    pub turns: Vec<ExplainedTurn>,
    pub rounds: Vec<ReviewRoundItem>,
    /// The review requests by their time.
    pub pairs: Vec<ReviewPairItem>,
}

/// A stretch of time that counts for one stage.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainedSegment {
    pub stage: Stage,
    #[schema(value_type = String, format = "date-time")]
    pub from: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    pub to: Timestamp,
    pub seconds: i64,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainedStep {
    pub stage: Stage,
    #[schema(value_type = String, format = "date-time")]
    pub from: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    pub to: Timestamp,
    /// The part of this period that counts for the stage.
    pub hours: f64,
    pub because: String,
}

/// The parts of a pull request's numbers that are explained.
pub(super) struct ExplainedParts<'a> {
    pub(super) timings: &'a Timings,
    pub(super) segments: &'a [StageSegment],
    pub(super) turns: &'a Turns,
    pub(super) repo: &'a str,
    pub(super) held_by: Option<PrNumber>,
}

pub(super) fn explain(parts: &ExplainedParts<'_>, context: ReadContext<'_>) -> NumbersExplanation {
    let ExplainedParts {
        timings,
        segments,
        turns,
        repo,
        held_by,
    } = *parts;
    let turns_explained = ExplainedTurn::all(turns, context.now);
    let mut text = match (timings.state, timings.cycle_time) {
        (PullRequestState::Merged, Some(cycle_time)) => {
            format!("Merged {} after it was opened.", in_words(cycle_time))
        }
        (PullRequestState::Merged, None) => {
            "Merged, at times that cannot be right, so it has no cycle time.".to_owned()
        }
        (PullRequestState::Open, _) => open_text(turns_explained.last(), held_by),
        _ => "Closed without a merge, so it has no cycle time.".to_owned(),
    };
    for Step {
        stage,
        seconds,
        because,
        ..
    } in &timings.steps
    {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " {}: {}, {because}.",
            stage_title(*stage),
            in_words(*seconds)
        );
    }
    for flag in &timings.flags {
        let _ = write!(text, " {}", flag_sentence(*flag));
    }
    let steps = timings.steps.iter().map(|step| ExplainedStep {
        stage: step.stage,
        from: step.from,
        to: step.to,
        hours: hours(step.seconds),
        because: step.because.to_owned(),
    });
    let segments = segments.iter().map(|segment| ExplainedSegment {
        stage: segment.stage,
        from: segment.from,
        to: segment.to,
        seconds: segment.seconds(),
    });
    let pairs = turns.pairs.iter();
    NumbersExplanation {
        text,
        segments: segments.collect(),
        steps: steps.collect(),
        turns: turns_explained,
        rounds: turns.rounds.iter().map(ReviewRoundItem::from).collect(),
        pairs: pairs
            .map(|pair| ReviewPairItem::new(pair, repo, context))
            .collect(),
    }
}

/// Says what an open pull request waits for.
fn open_text(turn: Option<&ExplainedTurn>, held_by: Option<PrNumber>) -> String {
    match (turn, held_by) {
        (_, Some(number)) => format!("Open, waits for #{number}, whose branch is its base."),
        (Some(turn), None) => format!("Open, waits {}.", turn.text),
        (None, None) => "Open, at times that cannot be right.".to_owned(),
    }
}

/// Formats seconds in the two largest units.
fn in_words(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Returns the sentence of a flag.
pub(crate) const fn flag_sentence(flag: Flag) -> &'static str {
    match flag {
        Flag::ClockSkew => {
            "A commit or the pull request itself is dated at a time that cannot be; that date is \
             left out."
        }
        Flag::HistoryIncomplete => {
            "Its opening was not seen, so the time before the first event is unknown."
        }
        Flag::MergedAsDraft => "It was merged as a draft.",
        Flag::MergedWithChangesRequested => "It was merged against a request for changes.",
        Flag::MergedWithoutApproval => "It was merged without a standing approval.",
        Flag::MergedWithoutReview => "It was merged without a review by another person.",
        Flag::PushedAfterApproval => "It was pushed to after the approval.",
        Flag::Reopened => "It was closed and opened again.",
        Flag::ReviewedInDraft => "It was reviewed only while it was a draft.",
        Flag::Stub => "Only parts of it were ever seen.",
        Flag::Truncated => {
            "GitHub has more of its texts, reviews, timeline or commits than are kept."
        }
    }
}

const fn stage_title(stage: Stage) -> &'static str {
    match stage {
        Stage::Coding => "Coding",
        Stage::Pickup => "Pickup",
        Stage::Review => "Review",
        Stage::MergeWait => "Waiting for the merge",
        Stage::Redraft => "Back in draft",
        Stage::Closed => "Closed",
    }
}
