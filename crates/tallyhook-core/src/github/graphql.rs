//! The GraphQL queries, and the shapes of their answers.
//!
//! One query replaces five REST calls: the pull request, its reviews, its commits' dates, the
//! requests for review and the timeline. Source: GitHub's public GraphQL schema, against which a
//! test checks every text here.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer};
use strum::VariantArray;

use super::types::{PrNumber, RepoId, Timestamp};
use crate::event::{AuthorAssociation, ReviewDecision};

/// The page size of a pull request's reviews, timeline entries and commits; [`more`] fetches the
/// next pages.
pub const REVIEWS: u32 = 50;
const TIMELINE: u32 = 100;
pub const COMMITS: u32 = 100;

/// A part of the queries that pull requests can do without. A token may lack the scope for it, and an
/// older Enterprise Server has a schema without it; either refuses the whole query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum OptionalPart {
    RequestedTeams,
    RequestedBots,
    Mannequins,
    MergeQueue,
    LongIds,
    DismissedStates,
    Drafts,
    ReviewDecision,
    AutoMerge,
    Checks,
}

/// The parts that a query does without.
pub type OmittedParts = BTreeSet<OptionalPart>;

impl OptionalPart {
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the part that an error is about, by its path and message; `None` if it is about none
    /// of them.
    pub fn of_error(error: &str) -> Option<Self> {
        let has = |word: &str| error.contains(word);
        let of_reviewer = has("equestedReviewer");
        Self::ALL.iter().copied().find(|part| match part {
            Self::RequestedTeams => {
                has("on Team") || has("'Team'") || has("'slug'") || has("read:org")
            }
            Self::RequestedBots => of_reviewer && has("Bot"),
            Self::Mannequins => has("Mannequin"),
            Self::MergeQueue => has("MergeQueue") || has("MERGE_QUEUE") || has("itemTypes"),
            Self::LongIds => has("fullDatabaseId"),
            Self::DismissedStates => has("previousReviewState"),
            Self::Drafts => has("isDraft") || has("ReadyForReview") || has("ConvertToDraft"),
            Self::ReviewDecision => has("reviewDecision"),
            Self::AutoMerge => has("autoMergeRequest") || has("AutoMergeRequest"),
            Self::Checks => {
                has("tatusCheckRollup")
                    || has("isRequired")
                    || has("CheckRun")
                    || has("StatusContext")
            }
        })
    }

    /// Returns the facts that are unknown without the part.
    pub const fn unknown(self) -> &'static str {
        match self {
            Self::RequestedTeams => "the teams that were asked for a review",
            Self::RequestedBots => "the bots that were asked for a review",
            Self::Mannequins => "the accounts of imported users",
            Self::MergeQueue => "the time in the merge queue",
            Self::LongIds => "ids beyond 32 bits",
            Self::DismissedStates => "the state of reviews before their dismissal",
            Self::Drafts => "the time as a draft",
            Self::ReviewDecision => "GitHub's own decision on the reviews",
            Self::AutoMerge => "auto-merge that is on",
            Self::Checks => "the required checks",
        }
    }
}

/// Returns `text` unless its part is omitted.
fn unless(omitted: &OmittedParts, part: OptionalPart, text: &'static str) -> &'static str {
    if omitted.contains(&part) { "" } else { text }
}

/// Returns the field with an object's id, under the name that the answers are read by.
fn long_id(omitted: &OmittedParts) -> &'static str {
    match omitted.contains(&OptionalPart::LongIds) {
        true => "fullDatabaseId: databaseId",
        false => "fullDatabaseId",
    }
}

fn account(omitted: &OmittedParts) -> String {
    format!(
        "fragment Account on Actor {{ __typename login \
         ... on User {{ databaseId }} ... on Bot {{ databaseId }} {} \
         ... on Organization {{ databaseId }} }}",
        unless(
            omitted,
            OptionalPart::Mannequins,
            "... on Mannequin { databaseId }"
        ),
    )
}

fn review_nodes(omitted: &OmittedParts) -> String {
    format!(
        "pageInfo {{ hasNextPage endCursor }} \
         nodes {{ {} state submittedAt commit {{ oid }} author {{ ...Account }} }}",
        long_id(omitted)
    )
}

/// The message is read for the addresses of co-authors alone, and never kept.
const COMMIT_NODES: &str = "totalCount pageInfo { hasNextPage endCursor } \
    nodes { commit { oid authoredDate committedDate message \
    author { email user { __typename login databaseId } } } }";

fn requested_reviewer(omitted: &OmittedParts) -> String {
    let [bot, mannequin, team] = [
        (
            OptionalPart::RequestedBots,
            "... on Bot { login databaseId }",
        ),
        (
            OptionalPart::Mannequins,
            "... on Mannequin { login databaseId }",
        ),
        (
            OptionalPart::RequestedTeams,
            "... on Team { slug databaseId }",
        ),
    ]
    .map(|(part, text)| unless(omitted, part, text));
    format!(
        "requestedReviewer {{ __typename ... on User {{ login databaseId }} {bot} {mannequin} {team} }}"
    )
}

fn timeline_types(omitted: &OmittedParts) -> String {
    let drafts = "READY_FOR_REVIEW_EVENT, CONVERT_TO_DRAFT_EVENT, ";
    let queue = "ADDED_TO_MERGE_QUEUE_EVENT, REMOVED_FROM_MERGE_QUEUE_EVENT, ";
    format!(
        "[{}{}REVIEW_REQUESTED_EVENT, REVIEW_REQUEST_REMOVED_EVENT, REVIEW_DISMISSED_EVENT, \
         CLOSED_EVENT, REOPENED_EVENT, MERGED_EVENT, ISSUE_COMMENT, HEAD_REF_FORCE_PUSHED_EVENT, \
         PULL_REQUEST_COMMIT]",
        unless(omitted, OptionalPart::Drafts, drafts),
        unless(omitted, OptionalPart::MergeQueue, queue),
    )
}

fn timeline_nodes(omitted: &OmittedParts) -> String {
    let drafts = "... on ReadyForReviewEvent { createdAt actor { ...Account } } \
                  ... on ConvertToDraftEvent { createdAt actor { ...Account } }";
    let queue = "... on AddedToMergeQueueEvent { createdAt actor { ...Account } } \
                 ... on RemovedFromMergeQueueEvent { createdAt actor { ...Account } reason }";
    let (reviewer, id) = (requested_reviewer(omitted), long_id(omitted));
    format!(
        "pageInfo {{ hasNextPage endCursor }} nodes {{ __typename {} {} \
         ... on ReviewRequestedEvent {{ createdAt actor {{ ...Account }} {reviewer} }} \
         ... on ReviewRequestRemovedEvent {{ createdAt actor {{ ...Account }} {reviewer} }} \
         ... on ReviewDismissedEvent {{ createdAt actor {{ ...Account }} {} review {{ {id} }} }} \
         ... on ClosedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on ReopenedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on MergedEvent {{ createdAt actor {{ ...Account }} }} \
         ... on HeadRefForcePushedEvent {{ createdAt actor {{ ...Account }} afterCommit {{ oid }} }} \
         ... on PullRequestCommit {{ commit {{ oid committedDate \
         author {{ email user {{ __typename login databaseId }} }} }} }} \
         ... on IssueComment {{ createdAt {id} author {{ ...Account }} }} }}",
        unless(omitted, OptionalPart::Drafts, drafts),
        unless(omitted, OptionalPart::MergeQueue, queue),
        unless(
            omitted,
            OptionalPart::DismissedStates,
            "previousReviewState"
        ),
    )
}

/// The fragment of a complete pull request. `$commits` is the number of commits to fetch.
fn whole(omitted: &OmittedParts) -> String {
    format!(
        "fragment Whole on PullRequest {{ \
         {} number state {} title body url createdAt updatedAt closedAt mergedAt \
         additions deletions changedFiles author {{ ...Account }} authorAssociation \
         mergeCommit {{ oid }} mergeable {} {} \
         labels(first: 100) {{ nodes {{ name }} }} \
         assignees(first: 10) {{ nodes {{ ...Account }} }} \
         reviewRequests(first: 100) {{ nodes {{ {} }} }} \
         baseRefName headRefName headRefOid headRepository {{ databaseId }} \
         reviews(first: {REVIEWS}) {{ {} }} \
         commits(first: $commits) {{ {COMMIT_NODES} }} \
         timelineItems(first: {TIMELINE}, itemTypes: {}) {{ {} }} }} {}",
        long_id(omitted),
        unless(omitted, OptionalPart::Drafts, "isDraft"),
        unless(omitted, OptionalPart::ReviewDecision, "reviewDecision"),
        unless(
            omitted,
            OptionalPart::AutoMerge,
            "autoMergeRequest { enabledAt }"
        ),
        requested_reviewer(omitted),
        review_nodes(omitted),
        timeline_types(omitted),
        timeline_nodes(omitted),
        account(omitted),
    )
}

/// A page of a repository's pull requests, latest update first. Variables: `owner`, `name`,
/// `first`, `after`, `commits`.
pub fn page(omitted: &OmittedParts) -> String {
    format!(
        "query Page($owner: String!, $name: String!, $first: Int!, $after: String, \
         $commits: Int!) {{ \
         repository(owner: $owner, name: $name) {{ databaseId nameWithOwner isPrivate \
         pullRequests(first: $first, after: $after, \
         orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ \
         totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ ...Whole }} }} }} }} {}",
        whole(omitted)
    )
}

/// The numbers of the pull requests on a [`page`]: a cheap query for a page that failed or was
/// returned with gaps. Variables: `owner`, `name`, `first`, `after`.
pub const NUMBERS: &str = "query Numbers($owner: String!, $name: String!, $first: Int!, \
    $after: String) { \
    repository(owner: $owner, name: $name) { databaseId nameWithOwner isPrivate \
    pullRequests(first: $first, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) { \
    totalCount pageInfo { hasNextPage endCursor } nodes { number } } } }";

/// The given pull requests of a repository, each under its [`alias`]. Variables: `owner`, `name`,
/// `commits`.
pub fn numbered(numbers: &[PrNumber], omitted: &OmittedParts) -> String {
    let wanted: Vec<_> = numbers
        .iter()
        .map(|number| {
            format!(
                "{}: pullRequest(number: {number}) {{ ...Whole {} }}",
                alias(*number),
                checks(*number, omitted)
            )
        })
        .collect();
    format!(
        "query Numbered($owner: String!, $name: String!, $commits: Int!) {{ \
         repository(owner: $owner, name: $name) {{ databaseId nameWithOwner isPrivate {} }} }} {}",
        wanted.join(" "),
        whole(omitted)
    )
}

/// Returns the checks of a pull request's head. GitHub answers whether one is required for a
/// number in the text alone, so that no [`page`] has them.
fn checks(number: PrNumber, omitted: &OmittedParts) -> String {
    if omitted.contains(&OptionalPart::Checks) {
        return String::new();
    }
    format!(
        "statusCheckRollup {{ contexts(first: 100) {{ nodes {{ \
         ... on CheckRun {{ status conclusion startedAt completedAt \
         isRequired(pullRequestNumber: {number}) }} \
         ... on StatusContext {{ state createdAt isRequired(pullRequestNumber: {number}) }} }} }} }}"
    )
}

/// Returns the name of a pull request in the answer to [`numbered`].
pub fn alias(number: PrNumber) -> String {
    format!("p{number}")
}

/// The next pages of one pull request's lists. Variables: `owner`, `name`, `number`; for each of
/// `reviews`, `commits` and `timeline` a flag that fetches it, and the cursor to start after
/// (`reviewsAfter`, ...).
pub fn more(omitted: &OmittedParts) -> String {
    format!(
        "query More($owner: String!, $name: String!, $number: Int!, $reviews: Boolean!, \
         $reviewsAfter: String, \
         $commits: Boolean!, $commitsAfter: String, $timeline: Boolean!, \
         $timelineAfter: String) {{ \
         repository(owner: $owner, name: $name) {{ pullRequest(number: $number) {{ \
         reviews(first: {REVIEWS}, after: $reviewsAfter) \
         @include(if: $reviews) {{ {} }} \
         commits(first: {COMMITS}, after: $commitsAfter) \
         @include(if: $commits) {{ {COMMIT_NODES} }} \
         timelineItems(first: {TIMELINE}, after: $timelineAfter, itemTypes: {}) \
         @include(if: $timeline) \
         {{ {} }} }} }} }} {}",
        review_nodes(omitted),
        timeline_types(omitted),
        timeline_nodes(omitted),
        account(omitted),
    )
}

/// The repository of each answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRepository {
    /// Null if it does not exist.
    #[serde(rename = "databaseId")]
    pub id: Option<RepoId>,
    /// `owner/name`, which differs from the requested one after a rename.
    pub name_with_owner: String,
    pub is_private: bool,
}

/// A list with the cursor of its next page.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection<T> {
    pub total_count: Option<u64>,
    pub page_info: PageInfo,
    /// GitHub returns null for an item that it could not load, or for the whole list.
    pub nodes: Option<Vec<Option<T>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    pub has_next_page: bool,
    pub end_cursor: Option<String>,
}

impl PageInfo {
    /// Returns the cursor of the next page; `None` after the last.
    pub fn next(&self) -> Option<&str> {
        self.end_cursor.as_deref().filter(|_| self.has_next_page)
    }
}

/// The pull requests of [`page`] or of [`NUMBERS`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPage<T> {
    #[serde(flatten)]
    pub repository: GraphqlRepository,
    pub pull_requests: Connection<T>,
}

/// A pull request in the answer to [`NUMBERS`].
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Number {
    pub number: PrNumber,
}

/// A complete pull request, except for the further pages of its lists.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlPullRequest {
    pub full_database_id: Option<BigInt>,
    pub number: PrNumber,
    pub state: GraphqlState,
    /// Absent if it is not requested.
    pub is_draft: Option<bool>,
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
    pub author: Option<GraphqlActor>,
    pub labels: Option<GraphqlList<GraphqlLabel>>,
    pub base_ref_name: String,
    pub head_ref_name: String,
    pub head_ref_oid: String,
    /// Null for a deleted fork.
    pub head_repository: Option<HeadRepository>,
    pub reviews: Option<Connection<GraphqlReview>>,
    pub commits: Connection<PullRequestCommit>,
    pub timeline_items: Connection<GraphqlTimelineItem>,
    pub author_association: Option<AuthorAssociation>,
    pub merge_commit: Option<Oid>,
    /// `MERGEABLE`, `CONFLICTING`, or `UNKNOWN` until GitHub has tried the merge.
    pub mergeable: Option<String>,
    /// `None` is no decision, or not requested, or a decision that is not known here.
    #[serde(default, deserialize_with = "any_decision")]
    pub review_decision: Option<ReviewDecision>,
    /// `None` if it is not requested; null while auto-merge is off.
    #[serde(default, deserialize_with = "present")]
    pub auto_merge_request: Option<Option<IgnoredAny>>,
    pub assignees: Option<GraphqlList<GraphqlActor>>,
    pub review_requests: Option<GraphqlList<ReviewRequest>>,
    /// Null without a check, if GitHub withholds it, and if it is not requested.
    pub status_check_rollup: Option<StatusCheckRollup>,
}

/// A list that is read without further pages.
#[derive(Clone, Debug, Deserialize)]
pub struct GraphqlList<T> {
    /// GitHub returns null for an item that it could not load, or for the whole list.
    pub nodes: Option<Vec<Option<T>>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewRequest {
    /// Null if the token may not see it.
    pub requested_reviewer: Option<GraphqlReviewer>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct StatusCheckRollup {
    pub contexts: Option<GraphqlList<CheckContext>>,
}

/// A check run, which has a `status`, or a commit status, which has a `state`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckContext {
    pub is_required: Option<bool>,
    pub status: Option<String>,
    pub conclusion: Option<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub state: Option<String>,
    pub created_at: Option<Timestamp>,
}

/// Reads a field that is there, be it null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn any_decision<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ReviewDecision>, D::Error> {
    let decision: Option<String> = Option::deserialize(deserializer)?;
    let decision = decision.as_deref().map(StrDeserializer::<D::Error>::new);
    Ok(decision.and_then(|name| ReviewDecision::deserialize(name).ok()))
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
pub enum GraphqlState {
    Open,
    Closed,
    Merged,
}

/// An actor. Bots have no `[bot]` at the end of their login here, as they have everywhere else.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlActor {
    #[serde(rename = "__typename")]
    pub kind: String,
    pub login: String,
    pub database_id: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct GraphqlLabel {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct HeadRepository {
    #[serde(rename = "databaseId")]
    pub id: Option<RepoId>,
}

/// A review. A pending one has no `submittedAt`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlReview {
    pub full_database_id: Option<BigInt>,
    /// `APPROVED` and the like. `DISMISSED` hides the state before, which the timeline has.
    pub state: String,
    pub submitted_at: Option<Timestamp>,
    pub commit: Option<Oid>,
    pub author: Option<GraphqlActor>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Oid {
    pub oid: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PullRequestCommit {
    pub commit: GraphqlCommit,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlCommit {
    pub oid: String,
    /// `None` for an impossible year, since git accepts any date, and where it is not requested.
    #[serde(default, deserialize_with = "any_date")]
    pub authored_date: Option<Timestamp>,
    #[serde(deserialize_with = "any_date")]
    pub committed_date: Option<Timestamp>,
    pub message: Option<String>,
    pub author: Option<GitActor>,
}

/// The author of a commit as git has it.
#[derive(Clone, Debug, Deserialize)]
pub struct GitActor {
    pub email: Option<String>,
    /// Null for a bot, and for an address of no account.
    pub user: Option<GraphqlActor>,
}

fn any_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Timestamp::parse(&String::deserialize(deserializer)?))
}

/// An entry of the timeline; which fields are there depends on its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlTimelineItem {
    #[serde(rename = "__typename")]
    pub kind: String,
    /// Absent for kinds of which it is not requested.
    pub created_at: Option<Timestamp>,
    pub actor: Option<GraphqlActor>,
    pub requested_reviewer: Option<GraphqlReviewer>,
    pub previous_review_state: Option<String>,
    pub review: Option<ReviewRef>,
    pub reason: Option<String>,
    pub full_database_id: Option<BigInt>,
    /// Of a comment.
    pub author: Option<GraphqlActor>,
    /// The head after a forced push; null if it is gone.
    pub after_commit: Option<Oid>,
    /// Of a commit, which has no other time than its own.
    pub commit: Option<GraphqlCommit>,
}

/// A requested reviewer: an account, which has a login, or a team, which has a slug.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlReviewer {
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

/// The requested lists of [`more`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct More {
    pub reviews: Option<Connection<GraphqlReview>>,
    pub commits: Option<Connection<PullRequestCommit>>,
    pub timeline_items: Option<Connection<GraphqlTimelineItem>>,
}
