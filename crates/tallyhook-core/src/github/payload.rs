//! The parts of GitHub's webhook payloads that are read here.
//!
//! Written by hand and lenient on purpose: of the recorded payloads of GitHub's own examples, one
//! in six breaks GitHub's own schemas (deleted forks, deleted accounts, integers where dates are
//! promised, fields newer than the capture). An unused field is not read, and one that may be
//! missing is an `Option`; a part of another shape than here is left out by `event::lenient`. Source: the webhook payloads in GitHub's REST description, and recorded
//! deliveries.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::event::{AuthorAssociation, UnreadPart};

use super::types::{
    Account, AccountId, AccountKind, InstallationId, PrNumber, RepoId, ReviewId, Timestamp,
};

/// Any payload of the events used here; which fields are there depends on event and action.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Payload {
    pub(crate) action: Option<String>,
    pub(crate) pull_request: Option<PullRequestPayload>,
    pub(crate) review: Option<ReviewPayload>,
    pub(crate) comment: Option<CommentPayload>,
    pub(crate) thread: Option<ThreadPayload>,
    pub(crate) issue: Option<IssuePayload>,
    pub(crate) repository: Option<RepositoryPayload>,
    pub(crate) sender: Option<UserPayload>,
    pub(crate) label: Option<LabelPayload>,
    pub(crate) milestone: Option<MilestonePayload>,
    pub(crate) assignee: Option<UserPayload>,
    pub(crate) requested_reviewer: Option<UserPayload>,
    pub(crate) requested_team: Option<TeamPayload>,
    pub(crate) changes: Option<ChangesPayload>,
    pub(crate) reason: Option<String>,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    pub(crate) merge_group: Option<MergeGroup>,
    pub(crate) installation: Option<InstallationPayload>,
    pub(crate) repositories: Option<Vec<RepositoryName>>,
    pub(crate) repositories_added: Option<Vec<RepositoryName>>,
    pub(crate) repositories_removed: Option<Vec<RepositoryName>>,
    /// The parts that were left out, since they are of another shape.
    #[serde(skip)]
    pub(crate) unread: Vec<UnreadPart>,
}

impl Payload {
    /// Returns an address that the payload names, of whichever GitHub sent it.
    pub(crate) fn address(&self) -> Option<&str> {
        let repository = self.repository.as_ref().map(|seen| &seen.html_url);
        let api = self.repository.as_ref().map(|seen| &seen.url);
        let pull_request = self.pull_request.as_ref().map(|seen| &seen.html_url);
        let issue = self
            .issue
            .as_ref()
            .and_then(|issue| issue.pull_request.as_ref());
        let issue = issue.map(|seen| &seen.html_url);
        let installation = self.installation.as_ref().map(|seen| &seen.html_url);
        let pages = [repository, api, pull_request, issue, installation];
        pages.into_iter().flatten().find_map(Option::as_deref)
    }
}

/// An account. GraphQL and some old payloads leave `type` out.
#[derive(Debug, Deserialize)]
pub(crate) struct UserPayload {
    pub(crate) id: AccountId,
    #[serde(default)]
    pub(crate) login: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<AccountKind>,
}

impl From<UserPayload> for Account {
    fn from(user: UserPayload) -> Self {
        Self {
            id: user.id,
            kind: user.kind.unwrap_or(AccountKind::User),
            login: user.login,
        }
    }
}

/// A full pull request (49 keys), or the simple one (37) of review events, which lacks the counts.
#[derive(Debug, Deserialize)]
pub(crate) struct PullRequestPayload {
    pub(crate) id: i64,
    pub(crate) number: PrNumber,
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) state: PayloadState,
    pub(crate) draft: Option<bool>,
    pub(crate) user: Option<UserPayload>,
    pub(crate) html_url: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) merged_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) labels: Vec<LabelPayload>,
    pub(crate) head: BranchPayload,
    pub(crate) base: BranchPayload,
    pub(crate) additions: Option<i64>,
    pub(crate) deletions: Option<i64>,
    pub(crate) changed_files: Option<i64>,
    pub(crate) commits: Option<i64>,
    pub(crate) requested_reviewers: Option<Vec<UserPayload>>,
    pub(crate) requested_teams: Option<Vec<TeamPayload>>,
    pub(crate) author_association: Option<AuthorAssociation>,
    pub(crate) auto_merge: Option<IgnoredAny>,
    /// Of a test merge until it is merged.
    pub(crate) merge_commit_sha: Option<String>,
    pub(crate) assignees: Option<Vec<UserPayload>>,
}

/// The state of a pull request or issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayloadState {
    Open,
    Closed,
}

/// One end of a pull request. `repo` is null once a fork was deleted.
#[derive(Debug, Deserialize)]
pub(crate) struct BranchPayload {
    #[serde(rename = "ref")]
    pub(crate) name: String,
    pub(crate) sha: String,
    pub(crate) repo: Option<BranchRepository>,
}

/// A repository's id.
#[derive(Debug, Deserialize)]
pub(crate) struct BranchRepository {
    pub(crate) id: RepoId,
}

/// An issue; a pull request's conversation is one with `pull_request` set.
#[derive(Debug, Deserialize)]
pub(crate) struct IssuePayload {
    pub(crate) number: PrNumber,
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) state: PayloadState,
    pub(crate) user: Option<UserPayload>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) closed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) labels: Vec<LabelPayload>,
    pub(crate) pull_request: Option<IssuePullRequest>,
}

/// The part of a pull request that its issue shows.
#[derive(Debug, Deserialize)]
pub(crate) struct IssuePullRequest {
    pub(crate) html_url: Option<String>,
    pub(crate) merged_at: Option<Timestamp>,
}

/// A submitted review. A pending one has no `submitted_at`.
#[derive(Debug, Deserialize)]
pub(crate) struct ReviewPayload {
    pub(crate) id: ReviewId,
    pub(crate) user: Option<UserPayload>,
    pub(crate) state: PayloadReviewState,
    pub(crate) submitted_at: Option<Timestamp>,
    pub(crate) commit_id: Option<String>,
    /// The App that wrote it, also with the token of a person.
    pub(crate) performed_via_github_app: Option<IgnoredAny>,
}

/// The state of a review. Webhooks write `approved`, the REST API `APPROVED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayloadReviewState {
    #[serde(alias = "APPROVED")]
    Approved,
    #[serde(alias = "CHANGES_REQUESTED")]
    ChangesRequested,
    #[serde(alias = "COMMENTED")]
    Commented,
    #[serde(alias = "DISMISSED")]
    Dismissed,
    #[serde(alias = "PENDING")]
    Pending,
}

/// A comment in the conversation, or on a line of the diff, which belongs to a review.
#[derive(Debug, Deserialize)]
pub(crate) struct CommentPayload {
    pub(crate) id: i64,
    pub(crate) user: Option<UserPayload>,
    pub(crate) created_at: Timestamp,
    pub(crate) pull_request_review_id: Option<ReviewId>,
    /// The App that wrote it, also with the token of a person.
    pub(crate) performed_via_github_app: Option<IgnoredAny>,
}

/// A conversation on a line of the diff.
#[derive(Debug, Deserialize)]
pub(crate) struct ThreadPayload {
    pub(crate) node_id: Option<String>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) comments: Vec<ThreadComment>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ThreadComment {
    pub(crate) id: i64,
}

/// A repository as every payload embeds it.
#[derive(Debug, Deserialize)]
pub(crate) struct RepositoryPayload {
    pub(crate) id: RepoId,
    pub(crate) full_name: String,
    pub(crate) html_url: Option<String>,
    /// Of the API in most events.
    pub(crate) url: Option<String>,
    pub(crate) private: Option<bool>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) pushed_at: Option<Timestamp>,
}

/// A repository as installation events list it.
#[derive(Debug, Deserialize)]
pub(crate) struct RepositoryName {
    pub(crate) id: RepoId,
    pub(crate) full_name: String,
    pub(crate) private: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LabelPayload {
    pub(crate) name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MilestonePayload {
    pub(crate) title: Option<String>,
}

/// A team. A deleted one has no slug.
#[derive(Debug, Deserialize)]
pub(crate) struct TeamPayload {
    pub(crate) id: Option<i64>,
    pub(crate) slug: Option<String>,
    pub(crate) name: Option<String>,
}

/// The changes of an `edited` action: each part carries the value before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChangesPayload {
    pub(crate) title: Option<ChangedValue>,
    pub(crate) body: Option<ChangedValue>,
    pub(crate) base: Option<ChangedBase>,
    /// Of a `repository` event that renames it.
    pub(crate) repository: Option<ChangedRepository>,
    /// Of a `repository` event that transfers it.
    pub(crate) owner: Option<ChangedOwner>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChangedRepository {
    pub(crate) name: Option<ChangedValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChangedOwner {
    from: Option<FormerOwner>,
}

#[derive(Debug, Deserialize)]
struct FormerOwner {
    user: Option<UserPayload>,
    organization: Option<UserPayload>,
}

impl ChangedOwner {
    /// Returns the login before.
    pub(crate) fn login(self) -> Option<String> {
        let FormerOwner { user, organization } = self.from?;
        user.or(organization).map(|owner| owner.login)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChangedValue {
    pub(crate) from: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChangedBase {
    #[serde(rename = "ref")]
    pub(crate) name: Option<ChangedValue>,
}

/// A merge queue's group; its `head_ref` names the pull request.
#[derive(Debug, Deserialize)]
pub(crate) struct MergeGroup {
    pub(crate) head_ref: String,
    pub(crate) head_commit: Option<HeadCommit>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeadCommit {
    pub(crate) timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct InstallationPayload {
    pub(crate) id: InstallationId,
    /// In the installation's own events only.
    pub(crate) account: Option<IgnoredAny>,
    pub(crate) html_url: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) suspended_at: Option<Timestamp>,
}

fn null_as_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
