//! Pull requests: listed, and one of them explained.

use std::collections::BTreeMap;

use actix_web::{get, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::metrics;
use tallyhook_core::domain::numbers::{NumberRules, Numbers, numbers};
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::review::Review;
use tallyhook_core::domain::timings::{PullRequestState, Stages, segments, standing_reviews};
use tallyhook_core::domain::waiting::Turn;
use tallyhook_core::event::{FetchedCommit, ReviewState, SubjectKind};
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_store::{PullRequestDurations, PullRequestRow, Store, TeamStore};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::business::BusinessItem;
use super::commits::CommitItem;
use super::error::ApiError;
use super::explain::{ExplainedParts, NumbersExplanation, explain};
use super::input::QueryInput;
use super::origin::OriginItem;
use super::team_api::TeamApi;
use super::waiting::{WaitingAbout, WaitingItem};

/// A pull request and its numbers. Unknown is null.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PullRequestItem {
    /// `owner/name`
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    /// Anything but `granted` means that GitHub no longer shows it to us: the data here is frozen.
    pub repo_access: RepositoryAccess,
    #[schema(value_type = i64, example = 107)]
    pub number: PrNumber,
    /// UUID version 5 of repository id and number; never changes.
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    pub github_pr_id: Option<i64>,
    #[schema(example = "Sort the queue")]
    pub title: Option<String>,
    #[schema(example = "mira")]
    pub author: String,
    pub author_is_bot: bool,
    pub state: PullRequestState,
    pub draft: Option<bool>,
    #[schema(example = "https://github.com/acme-corp/api-server/pull/107")]
    pub html_url: Option<String>,
    #[schema(example = "main")]
    pub base_ref: Option<String>,
    #[schema(example = "proj-123-sort-the-queue")]
    pub head_ref: Option<String>,
    pub head_sha: Option<String>,
    pub labels: Vec<String>,
    #[schema(value_type = String, format = "date-time", example = "2026-03-02T09:00:00Z")]
    pub pr_created_at: Timestamp,
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Timestamp,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub closed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time", example = "2026-03-03T11:00:00Z")]
    pub merged_at: Option<Timestamp>,
    pub additions: Option<i64>,
    pub deletions: Option<i64>,
    pub changed_files: Option<i64>,
    pub commits: Option<i64>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub first_commit_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub ready_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub first_response_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub first_review_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub final_approval_at: Option<Timestamp>,
    /// From creation to merge.
    #[schema(example = 26.0)]
    pub cycle_time_hours: Option<f64>,
    /// From creation to the first review.
    #[schema(example = 19.0)]
    pub review_time_hours: Option<f64>,
    pub stages: StagesHours,
    #[serde(flatten)]
    pub business: BusinessItem,
    /// The answer to who has to act; null unless it is open, and until it was computed.
    pub waiting: Option<WaitingItem>,
    /// The seconds of each kind of turn, `author`, `reviewers`, `nobody`, `ci`, `merge_queue`,
    /// `maintainers` and `closed`, that occurred; up to now where it is open. Null until they were
    /// computed.
    #[schema(value_type = Option<HashMap<String, i64>>)]
    pub time_by: Option<BTreeMap<Turn, i64>>,
    /// True if turns rest on pushes that were not seen.
    pub turns_inferred: bool,
    /// The version of the definition that the numbers follow. After an upgrade those of an earlier
    /// one are computed again in the background.
    #[schema(example = 2)]
    pub definition: i64,
    pub flags: Vec<String>,
    #[serde(flatten)]
    pub origin: OriginItem,
    pub source: Source,
    /// The time of the newest data from GitHub.
    #[schema(value_type = String, format = "date-time", example = "2026-03-03T11:00:00Z")]
    pub as_of: Timestamp,
}

/// The time of each stage in hours; null until merged, and for a stage that is unknown or did not
/// occur.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StagesHours {
    pub coding_hours: Option<f64>,
    #[schema(example = 19.0)]
    pub pickup_hours: Option<f64>,
    #[schema(example = 5.0)]
    pub review_hours: Option<f64>,
    #[schema(example = 2.0)]
    pub merge_wait_hours: Option<f64>,
    pub redraft_hours: Option<f64>,
    pub closed_hours: Option<f64>,
}

impl From<Stages> for StagesHours {
    fn from(stages: Stages) -> Self {
        Self {
            coding_hours: stages.coding.map(hours),
            pickup_hours: stages.pickup.map(hours),
            review_hours: stages.review.map(hours),
            merge_wait_hours: stages.merge_wait.map(hours),
            redraft_hours: stages.redraft.map(hours),
            closed_hours: stages.closed.map(hours),
        }
    }
}

/// A pull request with its reviews, its timeline and the derivation of its numbers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PullRequestDetail {
    #[serde(flatten)]
    pub pull_request: PullRequestItem,
    pub reviews: Vec<ReviewItem>,
    pub timeline: Vec<TimelineEntry>,
    /// Its commits, oldest first; empty unless they are fetched (`GITHUB_SYNC_COMMITS`).
    #[serde(default)]
    pub commit_list: Vec<CommitItem>,
    pub explain: NumbersExplanation,
    /// The time up to which GitHub's own history of it is known; null if it was never fetched.
    #[serde(default)]
    pub whole_until: Option<Timestamp>,
    /// Null if it is not watched by polling.
    #[serde(default)]
    pub watched: Option<WatchItem>,
}

/// The watch of a pull request that is asked for at every `MONITOR_POLL_INTERVAL`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WatchItem {
    pub since: Timestamp,
    /// The time of the last request to GitHub.
    pub checked_at: Option<Timestamp>,
    /// The error of that request; null if it went well.
    pub error: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReviewItem {
    pub github_review_id: i64,
    #[schema(example = "yuki")]
    pub reviewer: String,
    pub reviewer_is_bot: bool,
    pub state: ReviewState,
    /// The state before it was dismissed; null if that is unknown.
    pub original_state: Option<ReviewState>,
    /// True for the opinion of its reviewer that stands: an approval or a request for changes.
    #[serde(default)]
    pub stands: bool,
    #[schema(value_type = String, format = "date-time", example = "2026-03-03T04:00:00Z")]
    pub submitted_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = TimelineItem)]
pub struct TimelineEntry {
    #[schema(value_type = String, format = "date-time", example = "2026-03-02T09:00:00Z")]
    pub at: Timestamp,
    #[serde(rename = "type")]
    #[schema(example = "ready_for_review")]
    pub kind: String,
    #[schema(example = "mira")]
    pub actor: Option<String>,
    /// The account or team of a request for a review, the head of a push, the label, and the like.
    pub detail: Option<String>,
    /// The kind of the reviewer of a request; null for one that was stored before it was known.
    #[serde(default)]
    pub subject_kind: Option<SubjectKind>,
}

/// One pull request of the default repository.
#[utoipa::path(
    tag = "pull requests", operation_id = "get_pull_request", security(("token" = [])),
    params(("number" = i64, Path), FreshQuery),
    responses(
        (status = 200, body = PullRequestDetail),
        (status = 404, body = super::error::ApiErrorBody),
        (status = 409, body = super::error::ApiErrorBody,
            description = "no default repository is configured, or with `fresh` neither a GitHub \
                           token nor an App"),
        (status = 503, body = super::error::ApiErrorBody,
            description = "GitHub is not available now"),
    )
)]
#[get("/prs/{number}")]
pub(super) async fn of_default_repository(
    api: TeamApi,
    number: web::Path<i64>,
    QueryInput(fresh): QueryInput<FreshQuery>,
) -> Result<web::Json<PullRequestDetail>, ApiError> {
    let name = api.default_repository().ok_or_else(|| {
        let message = "no default repository: set GITHUB_REPO_OWNER and GITHUB_REPO_NAME, or use \
                       /api/repos/OWNER/REPO/prs/NUMBER";
        ApiError::Conflict(message.to_owned())
    })?;
    show(&api, name, PrNumber(*number), fresh.fresh).await
}

/// One pull request.
#[utoipa::path(
    tag = "pull requests", operation_id = "get_repository_pull_request",
    security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path), FreshQuery),
    responses(
        (status = 200, body = PullRequestDetail),
        (status = 404, body = super::error::ApiErrorBody),
        (status = 409, body = super::error::ApiErrorBody,
            description = "neither a GitHub token nor an App is configured"),
        (status = 503, body = super::error::ApiErrorBody,
            description = "GitHub is not available now"),
    )
)]
#[get("/repos/{owner}/{repo}/prs/{number}")]
pub(super) async fn of_repository(
    api: TeamApi,
    path: web::Path<(String, String, i64)>,
    QueryInput(fresh): QueryInput<FreshQuery>,
) -> Result<web::Json<PullRequestDetail>, ApiError> {
    let (owner, repo, number) = path.into_inner();
    show(
        &api,
        &format!("{owner}/{repo}"),
        PrNumber(number),
        fresh.fresh,
    )
    .await
}

/// The choice between stored data and a fetch from GitHub.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FreshQuery {
    /// True fetches from GitHub first, which costs no rate limit if nothing has changed.
    #[serde(default)]
    fresh: bool,
}

async fn show(
    api: &TeamApi,
    name: &str,
    number: PrNumber,
    fresh: bool,
) -> Result<web::Json<PullRequestDetail>, ApiError> {
    api.pull_request(name, number, fresh).await.map(web::Json)
}

impl TeamApi {
    /// Returns a pull request as it is stored; `fresh` fetches it from GitHub first. One that is
    /// old is fetched in the background.
    pub(crate) async fn pull_request(
        &self,
        name: &str,
        number: PrNumber,
        fresh: bool,
    ) -> Result<PullRequestDetail, ApiError> {
        let key = key_of(&self.store, name, number).await?;
        if fresh {
            self.refresh(name, key).await?;
        }
        let stores = (&self.store, &self.instance().store);
        let detail = stored(stores, &self.rules, key).await?;
        let PullRequestItem {
            repo_access, as_of, ..
        } = detail.pull_request;
        if !fresh && repo_access == RepositoryAccess::Granted {
            self.refresh_in_background(name, key, as_of);
        }
        Ok(detail)
    }
}

/// Returns the key of a pull request in a repository of that name.
pub(super) async fn key_of(
    store: &TeamStore,
    name: &str,
    number: PrNumber,
) -> Result<PrKey, ApiError> {
    let repo = store.repository_id(name).await?;
    let repo = repo.ok_or(ApiError::NotFound("pull request"))?;
    Ok(PrKey { repo, number })
}

/// Returns a pull request as it is stored.
pub(super) async fn stored(
    (store, facts): (&TeamStore, &Store),
    rules: &NumberRules,
    key: PrKey,
) -> Result<PullRequestDetail, ApiError> {
    // The row says whether the team sees it; facts are read only then.
    let row = store.pull_request(key).await?;
    let row = row.ok_or(ApiError::NotFound("pull request"))?;
    let known = facts.load(&[key]).await?.into_iter().next();
    let commits = facts.commits(key).await?;
    let mut found = Some(row)
        .zip(known)
        .and_then(|(row, known)| detail(row, &known.pull_request, commits, ReadContext::now(rules)))
        .ok_or(ApiError::NotFound("pull request"))?;
    let watch = store.watch_of(&found.pull_request.repo, key.number).await?;
    found.watched = watch.map(|watch| WatchItem {
        since: watch.since.into(),
        checked_at: watch.checked_at.map(Timestamp::from),
        error: watch.error,
    });
    Ok(found)
}

pub(super) fn hours(seconds: i64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
    let seconds = seconds as f64;
    metrics::hours(seconds)
}

/// The settings and the time that answers about pull requests depend on.
#[derive(Clone, Copy, Debug)]
pub struct ReadContext<'a> {
    pub rules: &'a NumberRules,
    pub now: Timestamp,
}

impl<'a> ReadContext<'a> {
    /// Returns the context of an answer that is given now.
    pub fn now(rules: &'a NumberRules) -> Self {
        let now = Utc::now().into();
        Self { rules, now }
    }
}

/// Adds the turn that lasts, up to `now`, to the seconds before it.
fn up_to_now(
    mut time_by: BTreeMap<Turn, i64>,
    turn: Option<(Turn, Timestamp)>,
    now: Timestamp,
) -> BTreeMap<Turn, i64> {
    if let Some((turn, since)) = turn {
        *time_by.entry(turn).or_default() += (now.epoch() - since.epoch()).max(0);
    }
    time_by
}

/// Converts a row to the API's form.
pub fn list_item(row: PullRequestRow, context: ReadContext<'_>) -> PullRequestItem {
    let about = WaitingAbout {
        repo: row.repo.clone(),
        reviewed: row.first_review_at.is_some(),
        held_by: row.held_by,
    };
    let PullRequestDurations {
        cycle_time,
        review_time,
        stages,
    } = row.durations;
    PullRequestItem {
        pr_id: PullRequest::id(row.key),
        repo: row.repo,
        repo_access: row.repo_access,
        number: row.key.number,
        github_pr_id: row.github_pr_id,
        title: row.title,
        author: row.author,
        author_is_bot: row.author_is_bot,
        state: row.state,
        draft: row.draft,
        html_url: row.html_url,
        base_ref: row.base_ref,
        head_ref: row.head_ref,
        head_sha: row.head_sha,
        labels: row.labels,
        pr_created_at: row.pr_created_at,
        updated_at: row.updated_at,
        closed_at: row.closed_at,
        merged_at: row.merged_at,
        additions: row.additions,
        deletions: row.deletions,
        changed_files: row.changed_files,
        commits: row.commits,
        first_commit_at: row.first_commit_at,
        ready_at: row.ready_at,
        first_response_at: row.first_response_at,
        first_review_at: row.first_review_at,
        final_approval_at: row.final_approval_at,
        cycle_time_hours: cycle_time.map(hours),
        review_time_hours: review_time.map(hours),
        stages: stages.into(),
        business: row.business.into(),
        waiting: row
            .waiting
            .map(|waiting| WaitingItem::new(waiting, &about, context)),
        time_by: row
            .time_by
            .map(|time_by| up_to_now(time_by, row.turn, context.now)),
        turns_inferred: row.turns_inferred,
        definition: row.definition,
        flags: row.flags,
        origin: row.origin.into(),
        source: row.source,
        as_of: row.as_of,
    }
}

/// Converts a row and the facts of its pull request to the API's form, without its watch; `None`
/// without a snapshot.
pub fn detail(
    row: PullRequestRow,
    pull_request: &PullRequest,
    commits: Vec<FetchedCommit>,
    context: ReadContext<'_>,
) -> Option<PullRequestDetail> {
    let rules = context.rules;
    let Numbers { timings, turns, .. } = numbers(pull_request, Some(&row.repo), rules)?;
    let mut reviews: Vec<_> = pull_request.reviews.values().collect();
    reviews.sort_by_key(|review| (review.submitted_at, review.id));
    let about = ExplainedParts {
        timings: &timings,
        segments: &segments(pull_request, &rules.bots, context.now),
        turns: &turns,
        repo: &row.repo.clone(),
        held_by: row.held_by,
    };
    let explain = explain(&about, context);
    let standing = standing_reviews(pull_request, &rules.bots);
    Some(PullRequestDetail {
        pull_request: list_item(row, context),
        reviews: reviews
            .iter()
            .map(|review| review_item(review, standing.contains(&review.id), &rules.bots))
            .collect(),
        timeline: timeline(pull_request, &reviews),
        commit_list: commits.into_iter().map(CommitItem::from).collect(),
        explain,
        whole_until: pull_request.whole_until,
        watched: None,
    })
}

fn review_item(review: &Review, stands: bool, bots: &Bots) -> ReviewItem {
    ReviewItem {
        github_review_id: review.id.0,
        reviewer: review.author.login.clone(),
        reviewer_is_bot: bots.contains(&review.author),
        state: review.state(),
        original_state: review.original_state,
        stands,
        submitted_at: review.submitted_at,
    }
}

/// Merges the facts and the reviews in order of time.
fn timeline(pull_request: &PullRequest, reviews: &[&Review]) -> Vec<TimelineEntry> {
    let facts = pull_request.timeline.iter().map(|fact| TimelineEntry {
        at: fact.at,
        kind: fact.kind.as_str().to_owned(),
        actor: fact.actor.map(|actor| actor.login),
        detail: fact.detail,
        subject_kind: fact.subject_kind,
    });
    let submitted = reviews.iter().map(|review| TimelineEntry {
        at: review.submitted_at,
        kind: "reviewed".to_owned(),
        actor: Some(review.author.login.clone()),
        detail: review.original_state.map(|state| state.as_str().to_owned()),
        subject_kind: None,
    });
    let dismissed = reviews.iter().filter_map(|review| {
        Some(TimelineEntry {
            at: review.dismissed_at?,
            kind: "review_dismissed".to_owned(),
            actor: None,
            detail: Some(review.author.login.clone()),
            subject_kind: None,
        })
    });
    let mut timeline: Vec<_> = facts.chain(submitted).chain(dismissed).collect();
    // Within a second the end is sorted last.
    let ends = |kind: &str| ["closed", "reopened", "merged"].contains(&kind);
    timeline.sort_by_key(|item| (item.at, ends(&item.kind)));
    timeline
}
