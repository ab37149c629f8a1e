//! Our own words for what happened on GitHub: what the queue carries and the domain understands.
//!
//! [`decode`](decode::decode) makes an event from a webhook, [`fetched`] makes one from what GitHub's API answers.

mod decode;
mod fetched;
pub mod message;
mod nul;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::decode::{Undecodable, decode, decode_fetched, is_json};
pub use self::fetched::{Unusable, fetched};
pub use self::nul::without_nul;
use crate::github::types::{Account, InstallationId, PrKey, PrNumber, RepoId, ReviewId, Timestamp};

/// GitHub's names of the events that are used here.
pub const NAMES: [&str; 10] = [
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "issue_comment",
    "merge_group",
    "push",
    "repository",
    "installation",
    "installation_repositories",
];

/// Something that happened, named by GitHub's event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
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
    /// No webhook: what GitHub's API shows.
    Snapshot(FetchedPullRequest),
}

/// The name of [`Event::Snapshot`], which is no event of GitHub's.
pub const SNAPSHOT: &str = "snapshot";

impl Event {
    /// GitHub's name of it, one of [`NAMES`], or [`SNAPSHOT`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PullRequest(_) => "pull_request",
            Self::PullRequestReview(_) => "pull_request_review",
            Self::PullRequestReviewComment(_) => "pull_request_review_comment",
            Self::PullRequestReviewThread(_) => "pull_request_review_thread",
            Self::IssueComment(_) => "issue_comment",
            Self::MergeGroup(_) => "merge_group",
            Self::Push(_) => "push",
            Self::Repository(_) => "repository",
            Self::Installation(_) => "installation",
            Self::InstallationRepositories(_) => "installation_repositories",
            Self::Snapshot(_) => SNAPSHOT,
        }
    }

    /// The pull-request event inside, whichever of GitHub's events told of it.
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

    /// Which pull request it tells of, if it is one's.
    pub fn pr_key(&self) -> Option<PrKey> {
        match self {
            Self::Snapshot(fetched) => Some(fetched.key()),
            _ => self.pull_request().map(PullRequestEvent::key),
        }
    }

    /// GitHub's action, such as `opened`.
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

    /// What the event shows of its repository.
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
    /// The latest moment the payload speaks of: it cannot be older than that.
    pub seen_at: Timestamp,
    /// The GitHub App installation that sent it, when one did.
    pub installation: Option<InstallationId>,
}

/// Something that happened to one pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequestEvent {
    pub action: String,
    pub repo: Repo,
    pub number: PrNumber,
    /// Who did it; null for deleted accounts' events without one.
    pub actor: Option<Account>,
    /// The pull request as the payload shows it; null in merge-group events.
    pub pull_request: Option<Snapshot>,
    /// What the event adds to the timeline.
    pub facts: Vec<Fact>,
    pub review: Option<Review>,
    /// What is known of the commits' dates.
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

/// A pull request as GitHub's API shows it, at the moment of its `updated_at`: all of it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchedPullRequest {
    pub repo: Repo,
    pub number: PrNumber,
    pub pull_request: Snapshot,
    /// GitHub's own timeline, as far as [`FactKind::is_fetched`], and the comments that are still there.
    pub timeline: Vec<Fact>,
    /// A review that was dismissed comes twice: as it was, and as dismissed.
    pub reviews: Vec<Review>,
    /// What is known of the commits' dates; null unless they were asked for.
    pub commits: Option<CommitDates>,
    /// Its lists are longer than anybody pages through: what is here is true, and not all of it.
    pub truncated: bool,
    /// Whether GitHub was asked so long after `updated_at` that nothing more can have happened within that second.
    pub settled: bool,
}

impl FetchedPullRequest {
    /// Until so many seconds after an update a webhook may be on its way that tells the same.
    pub const WEBHOOKS_TAKE: i64 = 60;

    /// Whether what it shows is so old at `now` that a webhook has told of it, or none will.
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

/// A pull request at one moment, as far as the payload tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// GitHub's `updated_at`: which of two snapshots is the newer.
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

/// One entry of a pull request's timeline. Two facts are the same when all but the actor is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Fact {
    pub at: Timestamp,
    #[serde(rename = "type")]
    pub kind: FactKind,
    /// The id of what it is about: a comment, a review, a reviewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<i64>,
    /// What it is about, in words: a label, a login, a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Account>,
}

/// What a timeline entry tells. The order is the one in which entries of one second are shown.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// `detail` is `draft` when it was opened as one.
    Opened,
    ConvertedToDraft,
    ReadyForReview,
    /// `subject` is the reviewer's or team's id.
    ReviewRequested,
    ReviewRequestRemoved,
    /// `subject` is the comment's id.
    Commented,
    /// A comment on a line; `subject` is the id of its review.
    ReviewCommented,
    /// `subject` is the id of the thread's first comment.
    ThreadResolved,
    ThreadUnresolved,
    /// `detail` is the new head commit.
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
    /// Whether GitHub's timeline, as it is fetched, has all facts of this kind. Comments are not among them: one that was
    /// deleted is in no answer, and was made all the same.
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

    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::ConvertedToDraft => "converted_to_draft",
            Self::ReadyForReview => "ready_for_review",
            Self::ReviewRequested => "review_requested",
            Self::ReviewRequestRemoved => "review_request_removed",
            Self::Commented => "commented",
            Self::ReviewCommented => "review_commented",
            Self::ThreadResolved => "thread_resolved",
            Self::ThreadUnresolved => "thread_unresolved",
            Self::Pushed => "pushed",
            Self::TitleEdited => "title_edited",
            Self::BodyEdited => "body_edited",
            Self::BaseChanged => "base_changed",
            Self::Labeled => "labeled",
            Self::Unlabeled => "unlabeled",
            Self::Assigned => "assigned",
            Self::Unassigned => "unassigned",
            Self::Milestoned => "milestoned",
            Self::Demilestoned => "demilestoned",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::AutoMergeEnabled => "auto_merge_enabled",
            Self::AutoMergeDisabled => "auto_merge_disabled",
            Self::Stacked => "stacked",
            Self::Enqueued => "enqueued",
            Self::MergeGroupChecksRequested => "merge_group_checks_requested",
            Self::MergeGroupDestroyed => "merge_group_destroyed",
            Self::Dequeued => "dequeued",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
            Self::Merged => "merged",
        }
    }
}

/// A review as one event shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    pub id: ReviewId,
    pub author: Account,
    pub state: ReviewState,
    pub submitted_at: Timestamp,
    pub commit_id: Option<String>,
    /// When it was dismissed, where the event tells.
    pub dismissed_at: Option<Timestamp>,
}

/// What a review says. Pending reviews are nobody's business yet and never get here.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    Commented,
    Approved,
    ChangesRequested,
    Dismissed,
}

impl ReviewState {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commented => "commented",
            Self::Approved => "approved",
            Self::ChangesRequested => "changes_requested",
            Self::Dismissed => "dismissed",
        }
    }
}

/// The day git was first committed to, 2005-04-07: no commit is older.
pub const FIRST_COMMIT_EVER: Timestamp = Timestamp::clamped(1_112_832_000);

/// The author and committer dates of a pull request's commits, as far as the numbers need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitDates {
    /// The earliest date from 2005-04-07 on, the day before which git did not exist.
    pub first: Option<Timestamp>,
    /// The latest date.
    pub last: Option<Timestamp>,
    /// Whether a date lies before 2005-04-07.
    pub prehistoric: bool,
}

/// A branch moved. Says nothing of a pull request by itself: `synchronize` does.
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

/// Something that happened to a repository as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryEvent {
    pub action: String,
    pub repo: Repo,
}

/// A GitHub App installation changed, or the repositories it may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallationEvent {
    pub action: String,
    pub installation: InstallationId,
    /// The installation's `updated_at`, where told.
    pub at: Option<Timestamp>,
    /// Repositories that can be seen from now on.
    pub gained: Vec<Repo>,
    /// Repositories that cannot be seen any more.
    pub lost: Vec<Repo>,
}
