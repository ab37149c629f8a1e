//! Our own events: the form in which the queue carries GitHub's events and the domain applies them.
//!
//! [`decode`](decode::decode) makes an event from a webhook, [`fetched`] makes one from an answer
//! of GitHub's API.

mod bounds;
mod commits;
mod decode;
mod escapes;
mod fetched;
mod lenient;
mod marks;
pub mod message;
mod reviewers;
mod snapshots;
mod undecoded;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::bounds::{is_repository_name, without_impossible_times};
pub use self::decode::{
    DecodedWebhook, Undecodable, decode, decode_fetched, decode_webhook, is_json,
};
pub use self::escapes::storable_json;
pub use self::fetched::{Unusable, fetched};
pub use self::lenient::UnreadPart;
pub use self::marks::shown_by;
pub use self::reviewers::{
    AuthorAssociation, FetchedCommit, MergeState, PullRequestDetails, RequestedReviewers,
    ReviewDecision, SubjectKind, Team,
};
pub use self::undecoded::{BodyOutline, outline};
use crate::github::types::{Account, InstallationId, PrKey, PrNumber, RepoId, ReviewId, Timestamp};

/// An event, named as in `X-GitHub-Event`.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, strum::EnumDiscriminants,
)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum_discriminants(name(EventKind))]
#[strum_discriminants(derive(strum::EnumString, strum::IntoStaticStr, strum::VariantNames))]
#[strum_discriminants(strum(serialize_all = "snake_case", const_into_str))]
#[strum_discriminants(doc = "The kind of an [`Event`], named as in `X-GitHub-Event`.")]
pub enum Event {
    PullRequest(PullRequestEvent),
    PullRequestReview(PullRequestEvent),
    PullRequestReviewComment(PullRequestEvent),
    PullRequestReviewThread(PullRequestEvent),
    IssueComment(PullRequestEvent),
    MergeGroup(PullRequestEvent),
    Push(PushEvent),
    Repository(RepositoryEvent),
    Installation(InstallationEvent),
    InstallationRepositories(InstallationEvent),
    /// A pull request as GitHub's API shows it. No webhook, and the last variant: see [`NAMES`].
    Snapshot(FetchedPullRequest),
}

/// The names of all webhook events that are used here: every [`EventKind`] but the last.
pub const NAMES: &[&str] = match <EventKind as strum::VariantNames>::VARIANTS {
    [webhooks @ .., _snapshot] => webhooks,
    [] => &[],
};

/// The name of [`Event::Snapshot`], which is not a webhook event.
pub const SNAPSHOT: &str = EventKind::Snapshot.into_str();

impl Event {
    /// Returns the name as in `X-GitHub-Event`, one of [`NAMES`], or [`SNAPSHOT`].
    pub fn name(&self) -> &'static str {
        EventKind::from(self).into_str()
    }

    /// Returns the pull-request event inside, whichever webhook event it is from.
    pub fn pull_request(&self) -> Option<&PullRequestEvent> {
        match self {
            Self::PullRequest(event)
            | Self::PullRequestReview(event)
            | Self::PullRequestReviewComment(event)
            | Self::PullRequestReviewThread(event)
            | Self::IssueComment(event)
            | Self::MergeGroup(event) => Some(event),
            Self::Push(_)
            | Self::Repository(_)
            | Self::Installation(_)
            | Self::InstallationRepositories(_)
            | Self::Snapshot(_) => None,
        }
    }

    /// Returns the pull request that the event is about.
    pub fn pr_key(&self) -> Option<PrKey> {
        match self {
            Self::Snapshot(fetched) => Some(fetched.key()),
            _ => self.pull_request().map(PullRequestEvent::key),
        }
    }

    /// Returns GitHub's action, such as `opened`.
    pub fn action(&self) -> Option<&str> {
        match self {
            Self::Push(_) | Self::Snapshot(_) => None,
            Self::Repository(event) => Some(&event.action),
            Self::Installation(event) | Self::InstallationRepositories(event) => {
                Some(&event.action)
            }
            _ => self.pull_request().map(|event| event.action.as_str()),
        }
    }

    /// Returns the repository as the event shows it.
    pub fn repo(&self) -> Option<&Repo> {
        match self {
            Self::Push(event) => Some(&event.repo),
            Self::Repository(event) => Some(&event.repo),
            Self::Snapshot(fetched) => Some(&fetched.repo),
            Self::Installation(_) | Self::InstallationRepositories(_) => None,
            _ => self.pull_request().map(|event| &event.repo),
        }
    }
}

/// A repository as it was when the event happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repo {
    pub id: RepoId,
    /// `owner/name` at that time.
    pub name: String,
    pub private: Option<bool>,
    /// The latest time in the payload: the event cannot be older.
    pub seen_at: Timestamp,
    /// The GitHub App installation that sent it, if one did.
    pub installation: Option<InstallationId>,
}

/// An event of one pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequestEvent {
    pub action: String,
    pub repo: Repo,
    pub number: PrNumber,
    /// The account that caused it; null for events of deleted accounts without one.
    pub actor: Option<Account>,
    /// The pull request as the payload shows it; null in merge-group events.
    pub pull_request: Option<PullRequestSnapshot>,
    /// The facts that the event adds to the timeline.
    pub facts: Vec<Fact>,
    pub review: Option<ReviewSnapshot>,
    /// The known dates of the commits.
    pub commits: Option<CommitDates>,
}

impl PullRequestEvent {
    pub fn key(&self) -> PrKey {
        PrKey {
            repo: self.repo.id,
            number: self.number,
        }
    }
}

/// A complete pull request as GitHub's API shows it, as of its `updated_at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchedPullRequest {
    pub repo: Repo,
    pub number: PrNumber,
    pub pull_request: PullRequestSnapshot,
    /// GitHub's own timeline, as far as [`FactKind::is_fetched`], and the comments that are still there.
    pub timeline: Vec<Fact>,
    /// A dismissed review is listed twice: as it was, and as dismissed.
    pub reviews: Vec<ReviewSnapshot>,
    /// The known dates of the commits; null unless they were requested.
    pub commits: Option<CommitDates>,
    /// Its lists are longer than the limit of pages: the listed parts are true, but not all.
    pub truncated: bool,
    /// True if it was fetched so long after `updated_at` that no later event can have that time.
    pub settled: bool,
    /// The commits, if all of them were requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commit_list: Vec<FetchedCommit>,
    /// The state of its merge; null unless it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_state: Option<MergeState>,
    /// The receipt of the answer with `merge_state`, which changes without an update. No part of the
    /// event, so that an answer without changes is the same event.
    #[serde(skip)]
    pub merge_state_at: Option<Timestamp>,
}

impl FetchedPullRequest {
    /// The seconds after an update for which its webhook may still be on its way.
    pub const WEBHOOKS_TAKE: i64 = 60;

    /// Returns whether the update is so old at `now` that its webhook has arrived, or never will.
    pub fn is_beyond_webhooks(&self, now: Timestamp) -> bool {
        now.epoch() - self.pull_request.updated_at.epoch() >= Self::WEBHOOKS_TAKE
    }

    pub fn key(&self) -> PrKey {
        PrKey {
            repo: self.repo.id,
            number: self.number,
        }
    }
}

/// A pull request at one time, as far as the payload shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Snapshot)]
pub struct PullRequestSnapshot {
    /// GitHub's `updated_at`, which orders two snapshots.
    pub updated_at: Timestamp,
    pub created_at: Timestamp,
    /// GitHub's id of the pull request; issue comments do not carry it.
    pub github_id: Option<i64>,
    pub author: Account,
    pub merged_at: Option<Timestamp>,
    pub conversation: Conversation,
    /// Carried by all but issue comments.
    pub branches: Option<Branches>,
    /// Carried by `pull_request` events only.
    pub diff: Option<Diff>,
    /// Carried by all but issue comments, which show neither these nor `details`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedReviewers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<PullRequestDetails>,
}

/// The fields that every payload carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    pub title: Option<String>,
    pub body: Option<String>,
    pub html_url: Option<String>,
    pub labels: Vec<String>,
    pub open: bool,
    pub closed_at: Option<Timestamp>,
    /// Set where the payload was beyond GitHub's bounds.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub marks: BTreeSet<SnapshotMark>,
}

/// A mark of a snapshot whose payload was beyond GitHub's bounds.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum SnapshotMark {
    /// One of its times cannot be.
    ClockSkew,
    /// One of its texts was cut at GitHub's limit.
    Truncated,
    /// It was merged, at a time that is not known.
    UndatedMerge,
}

impl SnapshotMark {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The fields that payloads with a pull request carry, be it full or simple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Branches {
    pub draft: Option<bool>,
    pub base_ref: String,
    pub head_ref: String,
    pub head_sha: String,
    /// Null once the fork was deleted.
    pub head_repo: Option<RepoId>,
}

/// The fields that only full pull requests carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    pub additions: Option<i64>,
    pub deletions: Option<i64>,
    pub changed_files: Option<i64>,
    pub commits: Option<i64>,
}

/// One entry of a pull request's timeline. Two facts are the same if all but the actor is equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Fact {
    pub at: Timestamp,
    #[serde(rename = "type")]
    pub kind: FactKind,
    /// The id of its subject: a comment, a review, a reviewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<i64>,
    /// The kind of the subject of a request for a review; null if it was stored before the kind was
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_kind: Option<SubjectKind>,
    /// Its subject as a text: a label, a login, a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Account>,
}

/// The kind of a timeline entry. Entries of one second are listed in this order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum FactKind {
    /// `detail` is `draft` when it was opened as one.
    Opened,
    ConvertedToDraft,
    ReadyForReview,
    /// `subject` is the reviewer's or team's id, `subject_kind` says of which, `detail` is the login or
    /// slug.
    ReviewRequested,
    ReviewRequestRemoved,
    /// `subject` is the comment's id.
    Commented,
    /// A comment on a line; `subject` is the id of its review.
    ReviewCommented,
    /// `subject` is the id of the thread's first comment, `detail` the thread's node id.
    ThreadResolved,
    ThreadUnresolved,
    /// A commit that a fetched pull request has, at its committer date, after its creation. `detail`
    /// is the commit. It stands for a push where none is known.
    Committed,
    /// `detail` is the new head commit. A webhook and GitHub's timeline may date one push a second
    /// apart.
    Pushed,
    /// `detail` is the title before.
    TitleEdited,
    BodyEdited,
    /// `detail` is the base branch before.
    BaseChanged,
    Labeled,
    Unlabeled,
    Assigned,
    Unassigned,
    Milestoned,
    Demilestoned,
    Locked,
    Unlocked,
    AutoMergeEnabled,
    /// `detail` is GitHub's reason.
    AutoMergeDisabled,
    Stacked,
    Enqueued,
    /// The merge queue asked for checks of the group that holds this pull request.
    MergeGroupChecksRequested,
    /// `detail` is GitHub's reason.
    MergeGroupDestroyed,
    /// `detail` is GitHub's reason.
    Dequeued,
    Closed,
    Reopened,
    Merged,
}

impl FactKind {
    /// Returns whether GitHub's timeline, as it is fetched, has all facts of this kind. It has not
    /// all comments: a deleted one is in no answer, and was written all the same.
    pub const fn is_fetched(self) -> bool {
        matches!(
            self,
            Self::Opened
                | Self::ConvertedToDraft
                | Self::ReadyForReview
                | Self::ReviewRequested
                | Self::ReviewRequestRemoved
                | Self::Enqueued
                | Self::Dequeued
                | Self::Closed
                | Self::Reopened
                | Self::Merged
        )
    }

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A review as one event shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Review)]
pub struct ReviewSnapshot {
    pub id: ReviewId,
    pub author: Account,
    pub state: ReviewState,
    pub submitted_at: Timestamp,
    pub commit_id: Option<String>,
    /// The time of its dismissal, if the event has it.
    pub dismissed_at: Option<Timestamp>,
}

/// The state of a submitted review. A pending one is private and never decoded.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ReviewState {
    Commented,
    Approved,
    ChangesRequested,
    Dismissed,
}

impl ReviewState {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The day git was first committed to, 2005-04-07: no commit is older.
pub const FIRST_COMMIT_EVER: Timestamp = Timestamp::clamped(1_112_832_000);

/// The author and committer dates of a pull request's commits, as far as the numbers need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitDates {
    /// The earliest date from 2005-04-07 on, the day before which git did not exist.
    pub first: Option<Timestamp>,
    /// The latest date.
    pub last: Option<Timestamp>,
    /// True if a date lies before 2005-04-07.
    pub prehistoric: bool,
    /// The same of author dates alone, and of committer dates alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_authored: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_authored: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_committed: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_committed: Option<Timestamp>,
}

/// A push to a branch or tag. It names no pull request: `synchronize` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushEvent {
    pub repo: Repo,
    /// `refs/heads/...` or `refs/tags/...`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    pub before: Option<String>,
    pub after: Option<String>,
    pub actor: Option<Account>,
}

/// An event of a repository itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryEvent {
    pub action: String,
    pub repo: Repo,
    /// `owner/name` before it was renamed or transferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_name: Option<String>,
}

/// A change of a GitHub App installation, or of its repositories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallationEvent {
    pub action: String,
    pub installation: InstallationId,
    /// GitHub's time of the event, if the payload shows it.
    pub at: Option<Timestamp>,
    /// Repositories to which it gained access.
    pub gained: Vec<Repo>,
    /// Repositories to which it lost access.
    pub lost: Vec<Repo>,
}
