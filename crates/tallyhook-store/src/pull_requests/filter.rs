//! Filters and results of the read side.

use jiff::tz::TimeZone;
use tallyhook_core::domain::business_time::{BusinessNumbers, DurationClock};
use tallyhook_core::domain::metrics::{AuthorFilter, CalendarBucket};
use tallyhook_core::domain::origin::{Origin, OriginCertainty};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::timings::{PullRequestDurations, PullRequestState};
use tallyhook_core::github::types::{PrKey, RepoId, Timestamp};

/// A filter by state, in GitHub's words: `closed` includes merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    Open,
    Closed,
    ClosedUnmerged,
    Merged,
}

/// A filter of pull requests. Newest update first.
#[derive(Clone, Debug, Default)]
pub struct PullRequestFilter {
    /// Any of these; all when empty.
    pub states: Vec<StateFilter>,
    pub repo: Option<RepoId>,
    /// A login, present or former: those of its account, whichever login they show.
    pub author: Option<String>,
    /// Updated at or after.
    pub from: Option<Timestamp>,
    /// Updated before.
    pub to: Option<Timestamp>,
    /// The last one of the page before.
    pub after: Option<(Timestamp, PrKey)>,
}

/// A pull request as it is listed. Durations in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct PullRequestRow {
    pub key: PrKey,
    pub repo: String,
    pub repo_access: RepositoryAccess,
    pub github_pr_id: Option<i64>,
    pub title: Option<String>,
    pub author: String,
    pub author_is_bot: bool,
    pub state: PullRequestState,
    pub draft: Option<bool>,
    pub html_url: Option<String>,
    pub base_ref: Option<String>,
    pub head_ref: Option<String>,
    pub head_sha: Option<String>,
    pub pr_created_at: Timestamp,
    pub updated_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub merged_at: Option<Timestamp>,
    pub labels: Vec<String>,
    pub additions: Option<i64>,
    pub deletions: Option<i64>,
    pub changed_files: Option<i64>,
    pub commits: Option<i64>,
    pub first_commit_at: Option<Timestamp>,
    pub ready_at: Option<Timestamp>,
    pub first_response_at: Option<Timestamp>,
    pub first_review_at: Option<Timestamp>,
    pub final_approval_at: Option<Timestamp>,
    pub durations: PullRequestDurations,
    /// `None` without a calendar.
    pub business: Option<BusinessNumbers>,
    pub flags: Vec<String>,
    pub origin: OriginRow,
    pub source: Source,
    /// GitHub's state is known as of this timestamp, by an update or a fetch.
    pub as_of: Timestamp,
}

/// The stored origin of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRow {
    pub origin: Option<Origin>,
    pub certainty: Option<OriginCertainty>,
    /// Login of the person for whom an agent opened it.
    pub opened_by: Option<String>,
    pub reviewed_by_requester: bool,
    pub first_bot_response_at: Option<Timestamp>,
    pub first_ai_review_at: Option<Timestamp>,
}

/// A filter of pull requests to aggregate, with the kind of buckets.
#[derive(Clone, Debug, Default)]
pub struct AggregateFilter {
    pub repo: Option<RepoId>,
    /// Merged at or after.
    pub from: Option<Timestamp>,
    /// Merged before.
    pub to: Option<Timestamp>,
    pub authors: AuthorFilter,
    pub bucket: Option<CalendarBucket>,
    /// The zone in which buckets begin; `None` is UTC.
    pub zone: Option<TimeZone>,
    pub clock: DurationClock,
}

/// The merged pull requests of a repository that follow one calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarUse {
    pub repo: String,
    /// `None` is no calendar.
    pub hash: Option<String>,
    pub pull_requests: i64,
}
