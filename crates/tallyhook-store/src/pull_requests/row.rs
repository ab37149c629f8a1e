//! Rows of the read side.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::domain::business_time::{BusinessNumbers, CalendarStamp, DurationClock};
use tallyhook_core::domain::metrics::{CohortPullRequest, MergedPullRequest};
use tallyhook_core::domain::origin::{Origin, OriginCertainty};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::timings::{Flag, PullRequestDurations, PullRequestState, Stages};
use tallyhook_core::domain::waiting::{Turn, Waiting, WaitingFor};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

use crate::columns::{Millis, Name, Seconds, Words};
use crate::{OriginRow, PullRequestRow};

/// A pull request as it is listed.
#[derive(FromRow)]
pub(crate) struct ListedRow {
    repo_id: i64,
    number: i64,
    repo: String,
    repo_access: Name<RepositoryAccess>,
    github_pr_id: Option<i64>,
    title: Option<String>,
    author_login: String,
    author_is_bot: bool,
    state: Name<PullRequestState>,
    draft: Option<bool>,
    html_url: Option<String>,
    base_ref: Option<String>,
    head_ref: Option<String>,
    head_sha: Option<String>,
    pr_created_at: Seconds,
    updated_at: Seconds,
    closed_at: Option<Seconds>,
    merged_at: Option<Seconds>,
    labels: Words,
    additions: Option<i64>,
    deletions: Option<i64>,
    changed_files: Option<i64>,
    commits: Option<i64>,
    first_commit_at: Option<Seconds>,
    ready_at: Option<Seconds>,
    first_response_at: Option<Seconds>,
    first_review_at: Option<Seconds>,
    final_approval_at: Option<Seconds>,
    #[sqlx(flatten)]
    durations: DurationColumns,
    #[sqlx(flatten)]
    business: BusinessColumns,
    flags: Words,
    #[sqlx(flatten)]
    origin: OriginColumns,
    definition: i64,
    waiting: Option<Json<Waiting>>,
    held_by: Option<i64>,
    turn: Option<Name<Turn>>,
    turn_since: Option<Seconds>,
    time_by: Option<Json<BTreeMap<Turn, i64>>>,
    turns_inferred: Option<bool>,
    source: Name<Source>,
    last_sync_at: Option<Millis>,
    checked_at: Option<Millis>,
}

#[derive(FromRow)]
struct OriginColumns {
    origin: Option<Name<Origin>>,
    origin_certainty: Option<Name<OriginCertainty>>,
    opened_by: Option<String>,
    reviewed_by_requester: Option<bool>,
    first_bot_response_at: Option<Seconds>,
    first_ai_review_at: Option<Seconds>,
}

impl From<OriginColumns> for OriginRow {
    fn from(row: OriginColumns) -> Self {
        let timestamp = |at: Option<Seconds>| at.map(|Seconds(at)| at);
        Self {
            origin: row.origin.map(|Name(origin)| origin),
            certainty: row.origin_certainty.map(|Name(certainty)| certainty),
            opened_by: row.opened_by,
            reviewed_by_requester: row.reviewed_by_requester.unwrap_or(false),
            first_bot_response_at: timestamp(row.first_bot_response_at),
            first_ai_review_at: timestamp(row.first_ai_review_at),
        }
    }
}

#[derive(FromRow)]
struct DurationColumns {
    cycle_time_s: Option<i64>,
    review_time_s: Option<i64>,
    coding_s: Option<i64>,
    pickup_s: Option<i64>,
    review_s: Option<i64>,
    merge_wait_s: Option<i64>,
    redraft_s: Option<i64>,
    closed_s: Option<i64>,
}

impl From<DurationColumns> for PullRequestDurations {
    fn from(row: DurationColumns) -> Self {
        Self {
            cycle_time: row.cycle_time_s,
            review_time: row.review_time_s,
            stages: Stages {
                coding: row.coding_s,
                pickup: row.pickup_s,
                review: row.review_s,
                merge_wait: row.merge_wait_s,
                redraft: row.redraft_s,
                closed: row.closed_s,
            },
        }
    }
}

#[derive(FromRow)]
struct BusinessColumns {
    business_cycle_time_s: Option<i64>,
    business_review_time_s: Option<i64>,
    business_coding_s: Option<i64>,
    business_pickup_s: Option<i64>,
    business_review_s: Option<i64>,
    business_merge_wait_s: Option<i64>,
    business_redraft_s: Option<i64>,
    business_closed_s: Option<i64>,
    calendar: Option<String>,
    calendar_zone: Option<String>,
    calendar_hash: Option<String>,
}

impl BusinessColumns {
    /// Returns the numbers; `None` without a calendar.
    fn numbers(self) -> Option<BusinessNumbers> {
        let calendar = self
            .calendar
            .zip(self.calendar_zone)
            .zip(self.calendar_hash);
        let ((name, zone), hash) = calendar?;
        let durations = PullRequestDurations {
            cycle_time: self.business_cycle_time_s,
            review_time: self.business_review_time_s,
            stages: Stages {
                coding: self.business_coding_s,
                pickup: self.business_pickup_s,
                review: self.business_review_s,
                merge_wait: self.business_merge_wait_s,
                redraft: self.business_redraft_s,
                closed: self.business_closed_s,
            },
        };
        Some(BusinessNumbers {
            durations,
            calendar: CalendarStamp { name, zone, hash },
        })
    }
}

impl From<ListedRow> for PullRequestRow {
    fn from(row: ListedRow) -> Self {
        let timestamp = |at: Option<Seconds>| -> Option<Timestamp> { at.map(|Seconds(at)| at) };
        let asked = row
            .last_sync_at
            .into_iter()
            .chain(row.checked_at)
            .map(|Millis(at)| Timestamp::from(at));
        Self {
            key: PrKey {
                repo: RepoId(row.repo_id),
                number: PrNumber(row.number),
            },
            repo: row.repo,
            repo_access: row.repo_access.0,
            github_pr_id: row.github_pr_id,
            title: row.title,
            author: row.author_login,
            author_is_bot: row.author_is_bot,
            state: row.state.0,
            draft: row.draft,
            html_url: row.html_url,
            base_ref: row.base_ref,
            head_ref: row.head_ref,
            head_sha: row.head_sha,
            pr_created_at: row.pr_created_at.0,
            updated_at: row.updated_at.0,
            closed_at: timestamp(row.closed_at),
            merged_at: timestamp(row.merged_at),
            labels: row.labels.0,
            additions: row.additions,
            deletions: row.deletions,
            changed_files: row.changed_files,
            commits: row.commits,
            first_commit_at: timestamp(row.first_commit_at),
            ready_at: timestamp(row.ready_at),
            first_response_at: timestamp(row.first_response_at),
            first_review_at: timestamp(row.first_review_at),
            final_approval_at: timestamp(row.final_approval_at),
            durations: row.durations.into(),
            business: row.business.numbers(),
            flags: row.flags.0,
            origin: row.origin.into(),
            definition: row.definition,
            waiting: row.waiting.map(|Json(waiting)| match row.held_by {
                Some(number) => held_by(waiting, number),
                None => waiting,
            }),
            held_by: row.held_by.map(PrNumber),
            turn: row
                .turn
                .zip(row.turn_since)
                .map(|(turn, since)| (turn.0, since.0)),
            time_by: row.time_by.map(|Json(time_by)| time_by),
            turns_inferred: row.turns_inferred.unwrap_or_default(),
            source: row.source.0,
            as_of: asked.fold(row.updated_at.0, Timestamp::max),
        }
    }
}

/// The rule of a pull request whose base is the head of another open one, which is known to readers
/// of all pull requests only.
pub(super) const HELD_BY_RULE: u8 = 10;

/// Returns the waiting of an approved pull request whose base is the head of an open one.
fn held_by(waiting: Waiting, number: i64) -> Waiting {
    Waiting {
        on: WaitingFor::BasePr,
        who: Vec::new(),
        because: format!("its base is the branch of #{number}, which is open"),
        rule: HELD_BY_RULE,
        ..waiting
    }
}

/// A merged pull request by place, since there are many of them: `merged_at`, `author_is_bot`,
/// `flags`, whether its clock has a calendar, durations, `origin`.
pub(crate) type MergedRow = (
    Seconds,
    bool,
    Words,
    bool,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Option<Name<Origin>>,
);

type Duration = Option<i64>;

/// Returns the columns of [`MergedRow`], all of them in the indices of aggregates.
pub(crate) const fn merged_columns(clock: DurationClock) -> &'static str {
    match clock {
        DurationClock::Calendar => {
            "merged_at, author_is_bot, flags, state = 'merged', \
             cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, \
             closed_s, origin"
        }
        DurationClock::Business => {
            "merged_at, author_is_bot, flags, calendar_hash IS NOT NULL, \
             business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, \
             business_review_s, business_merge_wait_s, business_redraft_s, business_closed_s, \
             origin"
        }
    }
}

pub(crate) fn merged(row: &MergedRow) -> MergedPullRequest {
    let durations = PullRequestDurations {
        cycle_time: row.4,
        review_time: row.5,
        stages: Stages {
            coding: row.6,
            pickup: row.7,
            review: row.8,
            merge_wait: row.9,
            redraft: row.10,
            closed: row.11,
        },
    };
    MergedPullRequest {
        merged_at: row.0.0,
        author_is_bot: row.1,
        origin: row.12.as_ref().map(|Name(origin)| *origin),
        flags: known_flags(&row.2),
        has_calendar: row.3,
        durations,
    }
}

/// Returns the flags of a row without those that a newer version may have stored: they decide
/// nothing here.
fn known_flags(Words(flags): &Words) -> Vec<Flag> {
    flags.iter().filter_map(|flag| flag.parse().ok()).collect()
}

/// Returns the columns of [`KeyedMergedRow`].
pub(crate) fn keyed_columns(clock: DurationClock) -> String {
    format!("{}, repo_id, number", merged_columns(clock))
}

/// A [`MergedRow`] with its key behind it.
pub(crate) type KeyedMergedRow = (
    Seconds,
    bool,
    Words,
    bool,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Duration,
    Option<Name<Origin>>,
    i64,
    i64,
);

pub(crate) fn keyed(row: KeyedMergedRow) -> (PrKey, MergedPullRequest) {
    let (a, b, c, d, e, f, g, h, i, j, k, l, m, repo, number) = row;
    let key = PrKey {
        repo: RepoId(repo),
        number: PrNumber(number),
    };
    (key, merged(&(a, b, c, d, e, f, g, h, i, j, k, l, m)))
}

/// A pull request as a cohort reads it: the times of its creation, its end and its first review,
/// `author_is_bot`, `origin`, `flags`.
pub(crate) type CohortRow = (
    Seconds,
    Option<Seconds>,
    Option<Seconds>,
    bool,
    Option<Name<Origin>>,
    Words,
);

pub(crate) fn member(row: &CohortRow, state: PullRequestState) -> CohortPullRequest {
    let (created_at, ended_at, first_review_at, author_is_bot, origin, flags) = row;
    CohortPullRequest {
        created_at: created_at.0,
        state,
        ended_at: ended_at.map(|Seconds(at)| at),
        first_review_at: first_review_at.map(|Seconds(at)| at),
        author_is_bot: *author_is_bot,
        origin: origin.map(|Name(origin)| origin),
        flags: known_flags(flags),
    }
}
