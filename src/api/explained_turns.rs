//! The turns, rounds and review requests of one pull request, for its explanation.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::waiting::{PairEnd, Party, ReviewPair, ReviewRound, Turn, Turns};
use tallyhook_core::github::types::Timestamp;
use utoipa::ToSchema;

use super::pull_requests::{ReadContext, hours};
use super::waiting::reviewer_calendar;

/// A stretch of time in which it was one party's turn.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainedTurn {
    pub turn: Turn,
    /// The logins and the slugs of teams whose turn it was.
    pub who: Vec<String>,
    pub from: Timestamp,
    /// Null while it lasts.
    pub to: Option<Timestamp>,
    /// Until now, where it lasts.
    pub hours: f64,
    #[schema(example = "2 d 3 h for ines-acme, asked on 3 March")]
    pub text: String,
}

/// A block of reviews, and the author's answer to it. The hours are those of the turns.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReviewRoundItem {
    /// The time from which the reviewers could begin.
    pub handed_at: Timestamp,
    pub first_review_at: Timestamp,
    pub last_review_at: Timestamp,
    /// The push or the request that followed.
    pub answered_at: Option<Timestamp>,
    pub reviewer_hours: f64,
    pub author_hours: Option<f64>,
}

/// A review request with its answer: either `login` or `team` is not null.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReviewPairItem {
    #[schema(example = "ines-acme")]
    pub login: Option<String>,
    /// The slug of a team on GitHub.
    pub team: Option<String>,
    /// 1 for the first request, then 2, 3 and so on.
    pub k: u32,
    pub asked_at: Timestamp,
    pub end: PairEnd,
    pub ended_at: Option<Timestamp>,
    pub response_review_at: Option<Timestamp>,
    /// The first review or comment.
    pub response_any_at: Option<Timestamp>,
    /// From the request to its end, or until now.
    pub hours: f64,
    /// The same in business hours, by the calendar of the person, of the team, or of the
    /// repository; null without any.
    pub business_hours: Option<f64>,
}

impl ExplainedTurn {
    pub(super) fn all(turns: &Turns, now: Timestamp) -> Vec<Self> {
        let steps = turns.steps.iter().zip(turns.lines(now));
        let explained = steps.map(|(step, text)| Self {
            turn: step.turn,
            who: step
                .who
                .iter()
                .map(|party| party.name().to_owned())
                .collect(),
            from: step.from,
            to: step.to,
            hours: span_hours(step.from, step.to.unwrap_or(now)),
            text,
        });
        explained.collect()
    }
}

impl From<&ReviewRound> for ReviewRoundItem {
    fn from(round: &ReviewRound) -> Self {
        Self {
            handed_at: round.handed_at,
            first_review_at: round.first_review_at,
            last_review_at: round.last_review_at,
            answered_at: round.answered_at,
            reviewer_hours: hours(round.reviewer_seconds),
            author_hours: round.author_seconds.map(hours),
        }
    }
}

impl ReviewPairItem {
    pub(super) fn new(pair: &ReviewPair, repo: &str, context: ReadContext<'_>) -> Self {
        let end = pair.ended_at.unwrap_or(context.now);
        let calendar = reviewer_calendar(&pair.party, repo, context.rules);
        let (login, team) = match &pair.party {
            Party::Account { login, .. } => (Some(login.clone()), None),
            Party::Team { slug, .. } => (None, Some(slug.clone())),
        };
        Self {
            login,
            team,
            k: pair.k,
            asked_at: pair.asked_at,
            end: pair.end,
            ended_at: pair.ended_at,
            response_review_at: pair.response_review_at,
            response_any_at: pair.response_any_at,
            hours: span_hours(pair.asked_at, end),
            business_hours: calendar.map(|calendar| hours(calendar.seconds(pair.asked_at, end))),
        }
    }
}

fn span_hours(from: Timestamp, to: Timestamp) -> f64 {
    hours((to.epoch() - from.epoch()).max(0))
}
