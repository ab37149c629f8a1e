//! Filters and results of the read side.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use tallyhook_core::domain::business_time::{BusinessNumbers, DurationClock};
use tallyhook_core::domain::metrics::{
    AuthorFilter, CalendarBucket, DurationName, ExclusionReason,
};
use tallyhook_core::domain::origin::{Origin, OriginCertainty};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::timings::{Flag, PullRequestDurations, PullRequestState};
use tallyhook_core::domain::waiting::{Turn, Waiting, WaitingFor, WaitingReason};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

/// A filter by state, in GitHub's words: `closed` includes merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    Open,
    Closed,
    ClosedUnmerged,
    Merged,
}

/// A filter of pull requests, and the order of the list.
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
    /// Merged at or after.
    pub merged_from: Option<Timestamp>,
    /// Merged before.
    pub merged_to: Option<Timestamp>,
    /// Closed at or after, without a merge.
    pub closed_from: Option<Timestamp>,
    /// Closed before, without a merge.
    pub closed_to: Option<Timestamp>,
    pub waiting_for: Option<WaitingFor>,
    pub reason: Option<WaitingReason>,
    /// Open ones that wait for this person or team.
    pub waiting_on: Option<PartyName>,
    /// Waiting since this time or longer.
    pub waiting_since_until: Option<Timestamp>,
    /// Waiting since a later time.
    pub waiting_since_after: Option<Timestamp>,
    pub details: DetailFilter,
    pub order: ListOrder,
    /// The last one of the page before.
    pub after: Option<ListPlace>,
    /// The last one that is looked at.
    pub until: Option<ListPlace>,
}

/// Conditions that no index has: where the list is long, a page looks at so many pull requests only
/// ([`Store::end_of_look`](crate::Store::end_of_look)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetailFilter {
    /// Those that have this duration, of at least so many seconds and less than so many.
    pub duration: Option<(DurationName, Option<i64>, Option<i64>)>,
    /// Merged ones without this duration.
    pub missing: Option<DurationName>,
    /// The clock of durations, of `counted` and of `excluded`.
    pub clock: DurationClock,
    pub flag: Option<Flag>,
    pub label: Option<String>,
    pub draft: Option<bool>,
    /// Those alone that aggregates of these authors count.
    pub counted: bool,
    /// Those alone that aggregates leave out for this reason, with a known time of the merge.
    pub excluded: Option<ExclusionReason>,
    /// All authors if it is `None` and neither `counted` nor `excluded` asks for those of
    /// aggregates.
    pub authors: Option<AuthorFilter>,
    /// A part of the title or of the branch, or a number.
    pub text: Option<String>,
}

/// A person or team by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartyName {
    /// A login, present or former.
    Login(String),
    /// The slug of a team on GitHub.
    Team(String),
}

/// Returns the column that has a duration in seconds.
pub(super) const fn duration_column(name: DurationName, clock: DurationClock) -> &'static str {
    let [calendar, business] = match name {
        DurationName::Cycle => ["cycle_time_s", "business_cycle_time_s"],
        DurationName::ReviewTime => ["review_time_s", "business_review_time_s"],
        DurationName::Coding => ["coding_s", "business_coding_s"],
        DurationName::Pickup => ["pickup_s", "business_pickup_s"],
        DurationName::Review => ["review_s", "business_review_s"],
        DurationName::MergeWait => ["merge_wait_s", "business_merge_wait_s"],
        DurationName::Redraft => ["redraft_s", "business_redraft_s"],
        DurationName::Closed => ["closed_s", "business_closed_s"],
    };
    match clock {
        DurationClock::Calendar => calendar,
        DurationClock::Business => business,
    }
}

/// The value by which a list is sorted. A pull request without it is not in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    #[default]
    Updated,
    Created,
    Merged,
    /// The time of the wait, of open ones: the largest is the one that waits longest.
    Waiting,
    /// Of those closed without a merge.
    Closed,
    /// Of merged ones. No index has this order: all pull requests of the filter are sorted.
    Duration(DurationName, DurationClock),
}

/// The order of a list, the largest value first by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListOrder {
    pub key: SortKey,
    pub ascending: bool,
}

/// A place in a list: the value by which it is sorted, in seconds, and the pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPlace {
    pub value: i64,
    pub key: PrKey,
}

impl ListOrder {
    /// Returns the place of a pull request in a list of this order.
    pub fn place(self, row: &PullRequestRow) -> ListPlace {
        let epoch = |at: Option<Timestamp>| at.map(Timestamp::epoch);
        let value = match self.key {
            SortKey::Updated => Some(row.updated_at.epoch()),
            SortKey::Created => Some(row.pr_created_at.epoch()),
            SortKey::Merged => epoch(row.merged_at),
            SortKey::Waiting => epoch(row.waiting.as_ref().map(|waiting| waiting.since)),
            SortKey::Closed => epoch(row.closed_at),
            SortKey::Duration(name, DurationClock::Calendar) => name.of(&row.durations),
            SortKey::Duration(name, DurationClock::Business) => {
                let business = row.business.as_ref();
                business.and_then(|business| name.of(&business.durations))
            }
        };
        ListPlace {
            // The list has none without it.
            value: value.unwrap_or_default(),
            key: row.key,
        }
    }
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
    /// The version of the definition that the numbers follow.
    pub definition: i64,
    /// `None` unless it is open, and while it was not computed.
    pub waiting: Option<Waiting>,
    /// The open pull request whose head is the base of this one, where it is all that this one
    /// waits for.
    pub held_by: Option<PrNumber>,
    /// The turn that lasts, and its beginning.
    pub turn: Option<(Turn, Timestamp)>,
    /// The seconds of each kind of turn before that one; `None` while it was not computed.
    pub time_by: Option<BTreeMap<Turn, i64>>,
    pub turns_inferred: bool,
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
    /// True summarises each origin apart, too.
    pub by_origin: bool,
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
