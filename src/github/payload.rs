//! The parts of GitHub's webhook payloads that are read here.
//!
//! Written by hand and lenient on purpose: of the recorded payloads of GitHub's own examples, one in six breaks
//! GitHub's own schemas (deleted forks, deleted accounts, integers where dates are promised, fields newer than the
//! capture). A field that is not used here is not looked at, and one that may be missing is an `Option`.
//! Source: the webhook payloads in GitHub's REST description, and recorded deliveries.

use serde::{Deserialize, Deserializer};

use super::types::{Account, AccountId, AccountKind, InstallationId, PrNumber, RepoId, ReviewId, Timestamp};

/// Any payload of the events used here; which fields are there depends on event and action.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Payload {
    pub action: Option<String>,
    pub pull_request: Option<PullRequest>,
    pub review: Option<Review>,
    pub comment: Option<Comment>,
    pub thread: Option<Thread>,
    pub issue: Option<Issue>,
    pub repository: Option<Repository>,
    pub sender: Option<User>,
    pub label: Option<Label>,
    pub milestone: Option<Milestone>,
    pub assignee: Option<User>,
    pub requested_reviewer: Option<User>,
    pub requested_team: Option<Team>,
    pub changes: Option<Changes>,
    pub reason: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    pub merge_group: Option<MergeGroup>,
    pub installation: Option<Installation>,
    pub repositories: Option<Vec<RepositoryName>>,
    pub repositories_added: Option<Vec<RepositoryName>>,
    pub repositories_removed: Option<Vec<RepositoryName>>,
}

/// An account. GraphQL and some old payloads leave `type` out.
#[derive(Debug, Deserialize)]
pub struct User {
    pub id: AccountId,
    #[serde(default)]
    pub login: String,
    #[serde(rename = "type", default)]
    pub kind: Option<AccountKind>,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { id: user.id, kind: user.kind.unwrap_or(AccountKind::User), login: user.login }
    }
}

/// A full pull request (49 keys), or the simple one (37) of review events, which lacks the counts.
#[derive(Debug, Deserialize)]
pub struct PullRequest {
    pub id: i64,
    pub number: PrNumber,
    pub title: Option<String>,
    pub body: Option<String>,
    pub state: State,
    pub draft: Option<bool>,
    pub user: Option<User>,
    pub html_url: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub merged_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub labels: Vec<Label>,
    pub head: Branch,
    pub base: Branch,
    pub additions: Option<i64>,
    pub deletions: Option<i64>,
    pub changed_files: Option<i64>,
    pub commits: Option<i64>,
}

/// Whether a pull request or issue is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Closed,
}

/// One end of a pull request. `repo` is null once a fork was deleted.
#[derive(Debug, Deserialize)]
pub struct Branch {
    #[serde(rename = "ref")]
    pub name: String,
    pub sha: String,
    pub repo: Option<RepositoryId>,
}

/// A repository of which only the identity matters.
#[derive(Debug, Deserialize)]
pub struct RepositoryId {
    pub id: RepoId,
}

/// An issue; a pull request's conversation is one with `pull_request` set.
#[derive(Debug, Deserialize)]
pub struct Issue {
    pub number: PrNumber,
    pub title: Option<String>,
    pub body: Option<String>,
    pub state: State,
    pub user: Option<User>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub labels: Vec<Label>,
    pub pull_request: Option<IssuePullRequest>,
}

/// What an issue tells of its pull request.
#[derive(Debug, Deserialize)]
pub struct IssuePullRequest {
    pub html_url: Option<String>,
    pub merged_at: Option<Timestamp>,
}

/// A submitted review. A pending one has no `submitted_at`.
#[derive(Debug, Deserialize)]
pub struct Review {
    pub id: ReviewId,
    pub user: Option<User>,
    pub state: String,
    pub submitted_at: Option<Timestamp>,
    pub commit_id: Option<String>,
}

/// A comment in the conversation, or on a line of the diff, which belongs to a review.
#[derive(Debug, Deserialize)]
pub struct Comment {
    pub id: i64,
    pub user: Option<User>,
    pub created_at: Timestamp,
    pub pull_request_review_id: Option<ReviewId>,
}

/// A conversation on a line of the diff.
#[derive(Debug, Deserialize)]
pub struct Thread {
    #[serde(default, deserialize_with = "null_as_empty")]
    pub comments: Vec<ThreadComment>,
}

#[derive(Debug, Deserialize)]
pub struct ThreadComment {
    pub id: i64,
}

/// A repository as every payload embeds it.
#[derive(Debug, Deserialize)]
pub struct Repository {
    pub id: RepoId,
    pub full_name: String,
    pub private: Option<bool>,
    pub updated_at: Option<Timestamp>,
    pub pushed_at: Option<Timestamp>,
}

/// A repository as installation events list it.
#[derive(Debug, Deserialize)]
pub struct RepositoryName {
    pub id: RepoId,
    pub full_name: String,
    pub private: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct Label {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct Milestone {
    pub title: String,
}

#[derive(Debug, Deserialize)]
pub struct Team {
    pub id: i64,
    pub slug: String,
}

/// What an `edited` action changed: each part carries the value before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Changes {
    pub title: Option<Changed>,
    pub body: Option<Changed>,
    pub base: Option<ChangedBase>,
}

#[derive(Debug, Deserialize)]
pub struct Changed {
    pub from: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ChangedBase {
    #[serde(rename = "ref")]
    pub name: Option<Changed>,
}

/// A merge queue's group; its `head_ref` names the pull request.
#[derive(Debug, Deserialize)]
pub struct MergeGroup {
    pub head_ref: String,
    pub head_commit: Option<HeadCommit>,
}

#[derive(Debug, Deserialize)]
pub struct HeadCommit {
    pub timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
pub struct Installation {
    pub id: InstallationId,
    pub updated_at: Option<Timestamp>,
    pub suspended_at: Option<Timestamp>,
}

fn null_as_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
