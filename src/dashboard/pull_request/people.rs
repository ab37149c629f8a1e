//! The people of a pull request: whose turn it was, who was asked, and what reviewers said.

use std::collections::BTreeMap;

use maud::{Markup, html};
use tallyhook_core::domain::waiting::{PairEnd, Turn};
use tallyhook_core::text::one_line;

use super::super::words;
use super::MAX_WORD;
use crate::api::{PullRequestDetail, ReviewItem, ReviewPairItem, ReviewRoundItem};

pub(super) fn turns(found: &PullRequestDetail) -> Markup {
    let turns = &found.explain.turns;
    html! {
        section #turns {
            h2 { "Whose turn it was" }
            @if turns.is_empty() { p { "It is not known: its times cannot be right." } }
            @else {
                table {
                    caption {
                        (totals(&found.pull_request.time_by.clone().unwrap_or_default()))
                        @if found.pull_request.turns_inferred {
                            " Not all pushes were seen: some turns are inferred from reviews."
                        }
                    }
                    thead {
                        tr {
                            th scope="col" { "Turn" }
                            th scope="col" { "From" }
                            th scope="col" { "To" }
                            th scope="col" .num { "Hours" }
                            th scope="col" .hide { "In words" }
                        }
                    }
                    tbody {
                        @for turn in turns {
                            tr {
                                th scope="row" {
                                    (words::turn(turn.turn))
                                    @if !turn.who.is_empty() { ": " bdi { (names(&turn.who)) } }
                                }
                                td { (words::time(turn.from)) }
                                td { @if let Some(to) = turn.to { (words::time(to)) } @else { "now" } }
                                td .num { (words::hours(Some(turn.hours))) }
                                td .hide { bdi { (one_line(&turn.text, 2 * MAX_WORD)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn names(who: &[String]) -> String {
    let names = who.iter().map(|name| one_line(name, MAX_WORD));
    names.collect::<Vec<_>>().join(" and ")
}

/// Returns the hours of each kind of turn as a sum, which is the whole time since the creation.
fn totals(time_by: &BTreeMap<Turn, i64>) -> String {
    let parts = time_by
        .iter()
        .map(|(turn, seconds)| format!("{} {}", words::turn(*turn), words::hours_of(*seconds)));
    let whole: i64 = time_by.values().sum();
    format!(
        "{} = {} h.",
        parts.collect::<Vec<_>>().join(" + "),
        words::hours_of(whole)
    )
}

pub(super) fn requests(found: &PullRequestDetail) -> Markup {
    let has_working_hours = found
        .explain
        .pairs
        .iter()
        .any(|pair| pair.business_hours.is_some());
    html! {
        section #requests {
            h2 { "Who was asked, and when they answered" }
            @if found.explain.pairs.is_empty() { p { "No one was asked for a review." } }
            @else {
                table {
                    caption .quiet { "Requests for a review by their time" }
                    thead {
                        tr {
                            th scope="col" { "Asked" }
                            th scope="col" { "At" }
                            th scope="col" { "Outcome" }
                            th scope="col" .hide { "At" }
                            th scope="col" .num { "Hours" }
                            @if has_working_hours { th scope="col" .num .hide { "Working hours" } }
                        }
                    }
                    tbody {
                        @for pair in &found.explain.pairs { (request(pair, has_working_hours)) }
                    }
                }
            }
            (rounds(&found.explain.rounds))
        }
    }
}

fn request(pair: &ReviewPairItem, has_working_hours: bool) -> Markup {
    let outcome = match pair.end {
        PairEnd::Answered => "answered by a review",
        PairEnd::Withdrawn => "withdrawn",
        PairEnd::Ended => "ended without an answer",
        PairEnd::Open => "not answered yet",
    };
    html! {
        tr {
            th scope="row" {
                @if let Some(team) = &pair.team { "team " bdi { (one_line(team, MAX_WORD)) } }
                @if let Some(login) = &pair.login { bdi { (one_line(login, MAX_WORD)) } }
                @if pair.k > 1 { " " span data-n="its place among the requests" { "(request " (pair.k) ")" } }
            }
            td { (words::time(pair.asked_at)) }
            td { (outcome) }
            td .hide { @if let Some(at) = pair.ended_at { (words::time(at)) } @else { (words::UNKNOWN) } }
            td .num { (words::hours(Some(pair.hours))) }
            @if has_working_hours { td .num .hide { (words::hours(pair.business_hours)) } }
        }
    }
}

fn rounds(rounds: &[ReviewRoundItem]) -> Markup {
    html! {
        @if !rounds.is_empty() {
            table {
                caption data-n="the rows of this table" { (words::counted(rounds.len() as u64, "round")) " of review" }
                thead {
                    tr {
                        th scope="col" { "Handed over" }
                        th scope="col" { "First review" }
                        th scope="col" .num { "Reviewers' hours" }
                        th scope="col" { "Author's answer" }
                        th scope="col" .num { "Author's hours" }
                    }
                }
                tbody {
                    @for round in rounds {
                        tr {
                            td { (words::time(round.handed_at)) }
                            td { (words::time(round.first_review_at)) }
                            td .num { (words::hours(Some(round.reviewer_hours))) }
                            td { @if let Some(at) = round.answered_at { (words::time(at)) } @else { (words::UNKNOWN) } }
                            td .num { (words::hours(round.author_hours)) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn reviews(found: &PullRequestDetail) -> Markup {
    let mut reviewers: BTreeMap<&str, Vec<&ReviewItem>> = BTreeMap::new();
    for review in &found.reviews {
        reviewers.entry(&review.reviewer).or_default().push(review);
    }
    html! {
        section #reviews {
            h2 { "Reviews" }
            @if reviewers.is_empty() { p { "There is no review yet." } }
            @else {
                table {
                    caption .quiet { "Reviewers with the opinion that stands, and all their reviews" }
                    thead {
                        tr {
                            th scope="col" { "Reviewer" }
                            th scope="col" { "Opinion" }
                            th scope="col" { "Reviews" }
                        }
                    }
                    tbody {
                        @for (reviewer, reviews) in &reviewers { (reviewer_row(reviewer, reviews)) }
                    }
                }
            }
        }
    }
}

fn reviewer_row(reviewer: &str, reviews: &[&ReviewItem]) -> Markup {
    let opinion = reviews.iter().find(|review| review.stands);
    html! {
        tr {
            th scope="row" {
                bdi { (one_line(reviewer, MAX_WORD)) }
                @if reviews.iter().any(|review| review.reviewer_is_bot) { " (a bot)" }
            }
            td {
                @match opinion {
                    Some(review) => (review.state.as_str().replace('_', " ")),
                    None => "none",
                }
            }
            td {
                @for (place, review) in reviews.iter().enumerate() {
                    @if place > 0 { ", " }
                    (review.original_state.unwrap_or(review.state).as_str().replace('_', " ")) " "
                    (words::time(review.submitted_at))
                    @if review.state != review.original_state.unwrap_or(review.state) { " (dismissed)" }
                }
            }
        }
    }
}
