//! The GraphQL queries that are asked, and the shapes of their answers.
//!
//! One query brings what five REST calls would: the pull request, its reviews, its commits' dates, the requests for
//! review and the timeline. Source: GitHub's public GraphQL schema, against which a test checks every text here.

use serde::{Deserialize, Deserializer};

use super::types::{PrNumber, RepoId, Timestamp};

/// How many of a pull request's reviews, timeline entries and commits come at once; the rest is asked for by [`more`].
pub const REVIEWS: u32 = 50;
const TIMELINE: u32 = 100;
pub const COMMITS: u32 = 100;

const ACCOUNT: &str = "fragment Account on Actor { \
    __typename login \
    ... on User { databaseId } ... on Bot { databaseId } \
    ... on Mannequin { databaseId } ... on Organization { databaseId } \
}";

const REVIEW_NODES: &str = "pageInfo { hasNextPage endCursor } \
    nodes { fullDatabaseId state submittedAt commit { oid } author { ...Account } }";

const COMMIT_NODES: &str =
    "totalCount pageInfo { hasNextPage endCursor } nodes { commit { authoredDate committedDate } }";

const REVIEWER: &str = "requestedReviewer { __typename \
    ... on User { login databaseId } ... on Bot { login databaseId } ... on Mannequin { login databaseId } \
    ... on Team { slug databaseId } }";

const TIMELINE_TYPES: &str = "[READY_FOR_REVIEW_EVENT, CONVERT_TO_DRAFT_EVENT, REVIEW_REQUESTED_EVENT, \
    REVIEW_REQUEST_REMOVED_EVENT, REVIEW_DISMISSED_EVENT, CLOSED_EVENT, REOPENED_EVENT, MERGED_EVENT, \
    ADDED_TO_MERGE_QUEUE_EVENT, REMOVED_FROM_MERGE_QUEUE_EVENT, ISSUE_COMMENT]";

fn timeline_nodes() -> String {
    format!(
        "pageInfo {{ hasNextPage endCursor }} nodes {{ __typename \
         ... on ReadyForReviewEvent {{ createdAt actor {{ ...Account }} }} \
         ... on ConvertToDraftEvent {{ createdAt actor {{ ...Account }} }} \
         ... on ReviewRequestedEvent {{ createdAt actor {{ ...Account }} {REVIEWER} }} \
         ... on ReviewRequestRemovedEvent {{ createdAt actor {{ ...Account }} {REVIEWER} }} \
         ... on ReviewDismissedEvent {{ createdAt actor {{ ...Account }} previousReviewState review {{ fullDatabaseId }} }} \
         ... on ClosedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on ReopenedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on MergedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on AddedToMergeQueueEvent {{ createdAt actor {{ ...Account }} }} \
         ... on RemovedFromMergeQueueEvent {{ createdAt actor {{ ...Account }} reason }} \
         ... on IssueComment {{ createdAt fullDatabaseId author {{ ...Account }} }} }}"
    )
}

/// The fragment of a whole pull request. `$commits` is how many commits are wanted.
fn whole() -> String {
    format!(
        "fragment Whole on PullRequest {{ \
         fullDatabaseId number state isDraft title body url createdAt updatedAt closedAt mergedAt \
         additions deletions changedFiles author {{ ...Account }} \
         labels(first: 100) {{ nodes {{ name }} }} \
         baseRefName headRefName headRefOid headRepository {{ databaseId }} \
         reviews(first: {REVIEWS}) {{ {REVIEW_NODES} }} \
         commits(first: $commits) {{ {COMMIT_NODES} }} \
         timelineItems(first: {TIMELINE}, itemTypes: {TIMELINE_TYPES}) {{ {} }} }} {ACCOUNT}",
        timeline_nodes()
    )
}

/// A page of a repository's pull requests, latest update first. Variables: `owner`, `name`, `first`, `after`, `commits`.
pub fn page() -> String {
    format!(
        "query Page($owner: String!, $name: String!, $first: Int!, $after: String, $commits: Int!) {{ \
         repository(owner: $owner, name: $name) {{ databaseId nameWithOwner isPrivate \
         pullRequests(first: $first, after: $after, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ \
         totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ ...Whole }} }} }} }} {}",
        whole()
    )
}

/// Which pull requests are on a [`page`]: cheap, for one that came with gaps or not at all. Variables: `owner`, `name`,
/// `first`, `after`.
pub const NUMBERS: &str = "query Numbers($owner: String!, $name: String!, $first: Int!, $after: String) { \
    repository(owner: $owner, name: $name) { databaseId nameWithOwner isPrivate \
    pullRequests(first: $first, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) { \
    totalCount pageInfo { hasNextPage endCursor } nodes { number } } } }";

/// Certain pull requests of a repository, each under its [`alias`]. Variables: `owner`, `name`, `commits`.
pub fn numbered(numbers: &[PrNumber]) -> String {
    let wanted: Vec<_> = numbers
        .iter()
        .map(|number| {
            format!(
                "{}: pullRequest(number: {number}) {{ ...Whole }}",
                alias(*number)
            )
        })
        .collect();
    format!(
        "query Numbered($owner: String!, $name: String!, $commits: Int!) {{ \
         repository(owner: $owner, name: $name) {{ databaseId nameWithOwner isPrivate {} }} }} {}",
        wanted.join(" "),
        whole()
    )
}

/// What a pull request is called in the answer to [`numbered`].
pub fn alias(number: PrNumber) -> String {
    format!("p{number}")
}

/// The next pages of one pull request's lists. Variables: `owner`, `name`, `number`; for each of `reviews`, `commits` and
/// `timeline` whether it is wanted, and after which cursor (`reviewsAfter`, ...).
pub fn more() -> String {
    format!(
        "query More($owner: String!, $name: String!, $number: Int!, $reviews: Boolean!, $reviewsAfter: String, \
         $commits: Boolean!, $commitsAfter: String, $timeline: Boolean!, $timelineAfter: String) {{ \
         repository(owner: $owner, name: $name) {{ pullRequest(number: $number) {{ \
         reviews(first: {REVIEWS}, after: $reviewsAfter) @include(if: $reviews) {{ {REVIEW_NODES} }} \
         commits(first: {COMMITS}, after: $commitsAfter) @include(if: $commits) {{ {COMMIT_NODES} }} \
         timelineItems(first: {TIMELINE}, after: $timelineAfter, itemTypes: {TIMELINE_TYPES}) @include(if: $timeline) \
         {{ {} }} }} }} }} {ACCOUNT}",
        timeline_nodes()
    )
}

/// What a repository is, in each answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Null for none that exists today.
    #[serde(rename = "databaseId")]
    pub id: Option<RepoId>,
    /// `owner/name`, which is not the one asked for after a rename.
    pub name_with_owner: String,
    pub is_private: bool,
}

/// A list with where it goes on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection<T> {
    pub total_count: Option<u64>,
    pub page_info: PageInfo,
    /// GitHub leaves null what it could not get: one of them, or all.
    pub nodes: Option<Vec<Option<T>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    pub has_next_page: bool,
    pub end_cursor: Option<String>,
}

impl PageInfo {
    /// Where the next page begins; `None` after the last.
    pub fn next(&self) -> Option<&str> {
        self.end_cursor.as_deref().filter(|_| self.has_next_page)
    }
}

/// The pull requests of [`page`], or what [`NUMBERS`] tells of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPage<T> {
    #[serde(flatten)]
    pub repository: Repository,
    pub pull_requests: Connection<T>,
}

/// What [`NUMBERS`] tells of a pull request.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Number {
    pub number: PrNumber,
}

/// A whole pull request, but for what of its lists is on further pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullRequest {
    pub full_database_id: Option<BigInt>,
    pub number: PrNumber,
    pub state: State,
    pub is_draft: bool,
    pub title: String,
    pub body: String,
    pub url: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub merged_at: Option<Timestamp>,
    pub additions: i64,
    pub deletions: i64,
    pub changed_files: i64,
    /// Null for a deleted account.
    pub author: Option<Account>,
    pub labels: Option<Labels>,
    pub base_ref_name: String,
    pub head_ref_name: String,
    pub head_ref_oid: String,
    /// Null for a deleted fork.
    pub head_repository: Option<RepositoryId>,
    pub reviews: Option<Connection<Review>>,
    pub commits: Connection<PullRequestCommit>,
    pub timeline_items: Connection<TimelineItem>,
}

/// An id beyond 32 bits, which JSON numbers might not hold: sent as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BigIntText")]
pub struct BigInt(pub i64);

#[derive(Deserialize)]
#[serde(untagged)]
enum BigIntText {
    Text(String),
    Number(i64),
}

impl TryFrom<BigIntText> for BigInt {
    type Error = std::num::ParseIntError;

    fn try_from(text: BigIntText) -> Result<Self, Self::Error> {
        Ok(Self(match text {
            BigIntText::Text(text) => text.parse()?,
            BigIntText::Number(number) => number,
        }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Open,
    Closed,
    Merged,
}

/// An actor. Bots have no `[bot]` at the end of their login here, as they have everywhere else.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    #[serde(rename = "__typename")]
    pub kind: String,
    pub login: String,
    pub database_id: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Labels {
    pub nodes: Option<Vec<Option<Label>>>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Label {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RepositoryId {
    #[serde(rename = "databaseId")]
    pub id: Option<RepoId>,
}

/// A review. A pending one has no `submittedAt`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    pub full_database_id: Option<BigInt>,
    /// `APPROVED` and the like; `DISMISSED` hides what it said, which the timeline tells.
    pub state: String,
    pub submitted_at: Option<Timestamp>,
    pub commit: Option<Oid>,
    pub author: Option<Account>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Oid {
    pub oid: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PullRequestCommit {
    pub commit: Commit,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// `None` for a year that no date has: git takes whatever it is told.
    #[serde(deserialize_with = "any_date")]
    pub authored_date: Option<Timestamp>,
    #[serde(deserialize_with = "any_date")]
    pub committed_date: Option<Timestamp>,
}

fn any_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Timestamp::parse(&String::deserialize(deserializer)?))
}

/// An entry of the timeline; which fields are there depends on its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineItem {
    #[serde(rename = "__typename")]
    pub kind: String,
    /// Absent where a kind was asked for by nobody.
    pub created_at: Option<Timestamp>,
    pub actor: Option<Account>,
    pub requested_reviewer: Option<Reviewer>,
    pub previous_review_state: Option<String>,
    pub review: Option<ReviewRef>,
    pub reason: Option<String>,
    pub full_database_id: Option<BigInt>,
    /// Of a comment.
    pub author: Option<Account>,
}

/// Whose review was asked for: an account, which has a login, or a team, which has a slug.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewer {
    #[serde(rename = "__typename")]
    pub kind: String,
    pub login: Option<String>,
    pub slug: Option<String>,
    pub database_id: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewRef {
    pub full_database_id: Option<BigInt>,
}

/// The lists of [`more`] that were asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct More {
    pub reviews: Option<Connection<Review>>,
    pub commits: Option<Connection<PullRequestCommit>>,
    pub timeline_items: Option<Connection<TimelineItem>>,
}
