//! Tasks: created and changed by people, and by their pull requests.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{ManualOverride, TaskId, TaskKey, TaskStatus, manual_override};
use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::{
    NewTask, PullRequestRow, Task, TaskCause, TaskEdit, TaskEvent, TaskFilter, TaskPlace, TaskRef,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiErrorBody};
use super::input::{JsonInput, QueryInput, parse_query};
use super::page::{self, ListCount, Page, PageSize};
use super::pull_requests::{PullRequestItem, ReadContext, list_item};
use super::rfc3339;
use super::team_api::TeamApi;
use crate::tasks::linked_prs;

/// The limits of texts, in characters; of the path in bytes.
const MAX_TITLE: usize = 500;
const MAX_BRANCH: usize = 255;
const MAX_PATH: usize = 4096;
/// Entries of the history that are shown.
const HISTORY: u32 = 100;

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskItem {
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// The key by which pull requests refer to it.
    #[schema(example = "PROJ-123")]
    pub key: Option<String>,
    pub title: String,
    pub status: TaskStatus,
    /// `owner/name` of its repository.
    pub repo: Option<String>,
    pub branch: Option<String>,
    pub worktree: Option<String>,
    #[schema(format = "date-time")]
    pub created_at: String,
    #[schema(format = "date-time")]
    pub updated_at: String,
    /// The pull requests that are linked to it or name its key.
    pub prs: Vec<LinkedPullRequest>,
    /// The status that its pull requests would give it, if a person set another one later.
    pub differs: Option<StatusDifference>,
}

/// A short form of a pull request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskPullRequest)]
pub struct LinkedPullRequest {
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    /// `owner/name`
    pub repo: String,
    #[schema(value_type = i64)]
    pub number: PrNumber,
    pub title: Option<String>,
    pub state: PullRequestState,
    pub html_url: Option<String>,
    /// Of an open one: the one thing that it waits for.
    pub waiting: Option<LinkedWaiting>,
}

/// A short form of what an open pull request waits for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskWaiting)]
pub struct LinkedWaiting {
    #[serde(rename = "for")]
    pub on: WaitingFor,
    pub since: Timestamp,
    pub because: String,
}

/// A task with its history.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskDetail {
    #[serde(flatten)]
    pub task: TaskItem,
    /// Its changes and their causes, the newest first.
    pub history: Vec<HistoryItem>,
}

/// The status of a task without the change that a person made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Difference)]
pub struct StatusDifference {
    pub would_be: TaskStatus,
    /// The pull request that gives this status.
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    #[schema(value_type = i64)]
    pub pr_number: PrNumber,
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// The time of the cause.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    #[schema(format = "date-time")]
    pub recorded_at: String,
    /// Null for its creation; the same as the new one where the status did not change.
    pub old_status: Option<TaskStatus>,
    pub new_status: TaskStatus,
    pub cause: TaskCause,
    /// The pull request that is the cause.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub pr_id: Option<Uuid>,
    #[schema(value_type = Option<i64>)]
    pub pr_number: Option<PrNumber>,
    pub note: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksQuery {
    /// The status of the tasks.
    status: Option<TaskStatus>,
    /// `owner/name` of their repository.
    repo: Option<String>,
    /// A part of the title or of the key.
    q: Option<String>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

type TaskCursor = (i64, TaskId);

/// Tasks, the newest first.
#[utoipa::path(
    tag = "tasks", operation_id = "list_tasks", security(("token" = [])), params(TasksQuery),
    responses((status = 200, body = Page<TaskItem>), (status = 400, body = ApiErrorBody))
)]
#[get("/tasks")]
pub(super) async fn list(
    api: TeamApi,
    QueryInput(query): QueryInput<TasksQuery>,
) -> Result<web::Json<Page<TaskItem>>, ApiError> {
    Ok(web::Json(listed(&api, query).await?))
}

async fn listed(api: &TeamApi, query: TasksQuery) -> Result<Page<TaskItem>, ApiError> {
    let size = query.per_page.unwrap_or_default();
    let cursor: Option<TaskCursor> = page::decode(query.cursor.as_deref())?;
    let before = cursor.and_then(|(at, id)| Some((DateTime::from_timestamp_micros(at)?, id)));
    let filter = TaskFilter {
        status: query.status,
        repo: query.repo,
        text: query.q,
    };
    let n = match query.count {
        Some(true) => Some(api.store.count_tasks(&filter).await?),
        _ => None,
    };
    let tasks = api.store.tasks(&filter, before, size.rows()).await?;
    let cursor = |task: &Task| (task.created_at.timestamp_micros(), task.id);
    let Page { items, next, .. } = page::page(tasks, size, cursor, |task| task);
    Ok(Page {
        items: self::items(api, items).await?,
        next,
        count: n.map(|n| ListCount { n, exact: true }),
    })
}

impl TeamApi {
    /// Answers as `GET /api/tasks`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn tasks(&self, query: &str) -> Result<Page<TaskItem>, ApiError> {
        listed(self, parse_query(query)?).await
    }

    /// Answers as `GET /api/tasks/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn task(&self, id: &str) -> Result<TaskDetail, ApiError> {
        detail(self, find(self, id).await?).await
    }

    /// Creates a task as `POST /api/tasks`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn create_task(&self, made: CreateTaskBody) -> Result<TaskDetail, ApiError> {
        let CreateTaskBody {
            key,
            title,
            status,
            repo,
            branch,
            worktree,
        } = made;
        let default = || {
            let name = self.default_repository().filter(|_| branch.is_some());
            name.map(str::to_owned)
        };
        let task = NewTask {
            id: TaskId(Uuid::new_v4()),
            key: key.as_deref().map(parse_key).transpose()?,
            title: checked_title(title)?,
            status: status.unwrap_or(TaskStatus::Todo),
            place: TaskPlace {
                repo: repo.map(checked_repo).transpose()?.or_else(default),
                branch: branch.map(checked_branch).transpose()?,
                worktree: worktree.map(checked_path).transpose()?,
            },
        };
        if !self.store.create_task(&task, Utc::now()).await? {
            let key = task.key.map(|key| key.to_string()).unwrap_or_default();
            return Err(ApiError::Conflict(format!("a task {key} exists already")));
        }
        let made = self.store.task(&TaskRef::Id(task.id)).await?;
        detail(self, made.ok_or(ApiError::NotFound("task"))?).await
    }

    /// Changes a task as `PATCH /api/tasks/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn change_task(
        &self,
        id: &str,
        changed: ChangeTaskBody,
    ) -> Result<TaskDetail, ApiError> {
        let ChangeTaskBody {
            title,
            status,
            repo,
            branch,
            worktree,
        } = changed;
        let mut edit = TaskEdit {
            title: title.map(checked_title).transpose()?,
            status,
            repo: checked(repo, checked_repo)?,
            branch: checked(branch, checked_branch)?,
            worktree: checked(worktree, checked_path)?,
        };
        let task = find(self, id).await?;
        // As in `create_task`: a branch belongs to a repository.
        if let (Some(Some(_)), None, None) = (&edit.branch, &edit.repo, &task.place.repo) {
            edit.repo = self.default_repository().map(|name| Some(name.to_owned()));
        }
        self.store.edit_task(task.id, &edit, Utc::now()).await?;
        self.task(id).await
    }
}

/// A task to create.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TaskMade)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTaskBody {
    /// Up to 64 letters, digits, `-`, `_` and `.`; unique among tasks.
    #[schema(example = "PROJ-123")]
    pub(crate) key: Option<String>,
    #[schema(example = "Sort the queue")]
    pub(crate) title: String,
    /// Default: `TODO`.
    pub(crate) status: Option<TaskStatus>,
    /// `owner/name`; default: the default repository, if there is a branch.
    pub(crate) repo: Option<String>,
    #[schema(example = "proj-123-sort-the-queue")]
    pub(crate) branch: Option<String>,
    /// A path below `WORKTREE_ROOT`.
    pub(crate) worktree: Option<String>,
}

/// Creates a task. It is linked at once to the pull requests that name its key.
#[utoipa::path(
    tag = "tasks", operation_id = "create_task", security(("token" = [])),
    request_body = CreateTaskBody,
    responses(
        (status = 201, body = TaskDetail),
        (status = 400, body = ApiErrorBody),
        (status = 409, body = ApiErrorBody, description = "a task has that key"),
    )
)]
#[post("/tasks")]
pub(super) async fn create(
    api: TeamApi,
    JsonInput(made): JsonInput<CreateTaskBody>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Created().json(api.create_task(made).await?))
}

/// A task by its id or key, with its history.
#[utoipa::path(
    tag = "tasks", operation_id = "get_task", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")),
    responses((status = 200, body = TaskDetail), (status = 404, body = ApiErrorBody))
)]
#[get("/tasks/{id}")]
pub(super) async fn show(
    api: TeamApi,
    id: web::Path<String>,
) -> Result<web::Json<TaskDetail>, ApiError> {
    Ok(web::Json(api.task(&id).await?))
}

/// Changes of a task: a field that is left out stays, and null removes it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = TaskChanged)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTaskBody {
    pub(crate) title: Option<String>,
    /// Kept until a later change of a pull request.
    pub(crate) status: Option<TaskStatus>,
    /// `owner/name`; default: the default repository, if a branch is given and the task has none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) repo: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) branch: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) worktree: Option<Option<String>>,
}

/// Deserializes null as `Some(None)`, apart from a field that is left out.
fn nullable<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes a task.
#[utoipa::path(
    tag = "tasks", operation_id = "change_task", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")), request_body = ChangeTaskBody,
    responses(
        (status = 200, body = TaskDetail),
        (status = 400, body = ApiErrorBody),
        (status = 404, body = ApiErrorBody),
    )
)]
#[patch("/tasks/{id}")]
pub(super) async fn change(
    api: TeamApi,
    id: web::Path<String>,
    JsonInput(changed): JsonInput<ChangeTaskBody>,
) -> Result<web::Json<TaskDetail>, ApiError> {
    Ok(web::Json(api.change_task(&id, changed).await?))
}

/// The pull requests of a task, by its id or key.
#[utoipa::path(
    tag = "tasks", operation_id = "pull_requests_of_story",
    security(("token" = [])), params(("id" = String, Path, description = "id or key")),
    responses((status = 200, body = Page<PullRequestItem>), (status = 404, body = ApiErrorBody))
)]
#[get("/stories/{id}/prs")]
pub(super) async fn of_story(
    api: TeamApi,
    id: web::Path<String>,
) -> Result<web::Json<Page<PullRequestItem>>, ApiError> {
    let task = find(&api, &id).await?;
    let context = ReadContext::now(&api.rules);
    let mut items: Vec<_> = api
        .store
        .pull_requests_by_key(&task.prs)
        .await?
        .into_iter()
        .map(|row| list_item(row, context))
        .collect();
    items.sort_by(|one, two| {
        two.updated_at
            .cmp(&one.updated_at)
            .then(one.pr_id.cmp(&two.pr_id))
    });
    Ok(web::Json(Page::new(items, None)))
}

/// Returns the task with the id or key of a path.
pub(super) async fn find(api: &TeamApi, text: &str) -> Result<Task, ApiError> {
    let id = Uuid::parse_str(text).ok().map(|id| TaskRef::Id(TaskId(id)));
    let which = id
        .or_else(|| TaskKey::parse(text).map(TaskRef::Key))
        .ok_or(ApiError::NotFound("task"))?;
    api.store
        .task(&which)
        .await?
        .ok_or(ApiError::NotFound("task"))
}

/// Returns tasks with their pull requests, which are read all at once.
async fn items(api: &TeamApi, tasks: Vec<Task>) -> Result<Vec<TaskItem>, ApiError> {
    let keys: Vec<_> = tasks.iter().flat_map(|task| &task.prs).copied().collect();
    let rows = api.store.pull_requests_by_key(&keys).await?;
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row)).collect();
    let mut items = Vec::with_capacity(tasks.len());
    for task in tasks {
        let differs = difference(api, &task).await?;
        items.push(item(task, differs, &rows));
    }
    Ok(items)
}

/// Returns the status that the pull requests of a task would give it, if a person set another one
/// later.
async fn difference(api: &TeamApi, task: &Task) -> Result<Option<StatusDifference>, ApiError> {
    let linked = match task.state.by_hand {
        Some(_) => linked_prs(&api.instance().store, task).await?,
        None => return Ok(None),
    };
    let differs = manual_override(&task.state, &linked);
    Ok(differs.map(
        |ManualOverride {
             would_be,
             cause,
             at,
         }| StatusDifference {
            would_be,
            pr_id: PullRequest::id(cause),
            pr_number: cause.number,
            at,
        },
    ))
}

fn item(
    task: Task,
    differs: Option<StatusDifference>,
    rows: &BTreeMap<PrKey, PullRequestRow>,
) -> TaskItem {
    let prs = task.prs.iter().filter_map(|key| rows.get(key));
    let prs = prs.map(|row| LinkedPullRequest {
        pr_id: PullRequest::id(row.key),
        repo: row.repo.clone(),
        number: row.key.number,
        title: row.title.clone(),
        state: row.state,
        html_url: row.html_url.clone(),
        waiting: row.waiting.as_ref().map(|waiting| LinkedWaiting {
            on: waiting.on,
            since: waiting.since,
            because: waiting.because.clone(),
        }),
    });
    TaskItem {
        id: task.id,
        key: task.key.map(|key| key.to_string()),
        title: task.title,
        status: task.state.status,
        repo: task.place.repo,
        branch: task.place.branch,
        worktree: task.place.worktree,
        created_at: rfc3339(task.created_at),
        updated_at: rfc3339(task.updated_at),
        prs: prs.collect(),
        differs,
    }
}

pub(super) async fn detail(api: &TeamApi, task: Task) -> Result<TaskDetail, ApiError> {
    let history = api.store.task_history(task.id, HISTORY).await?;
    let task = items(api, vec![task]).await?.into_iter().next();
    Ok(TaskDetail {
        task: task.ok_or(ApiError::NotFound("task"))?,
        history: history.into_iter().map(entry).collect(),
    })
}

fn entry(event: TaskEvent) -> HistoryItem {
    HistoryItem {
        at: event.at,
        recorded_at: rfc3339(event.recorded_at),
        old_status: event.old,
        new_status: event.new,
        cause: event.cause,
        pr_id: event.pull_request.map(PullRequest::id),
        pr_number: event.pull_request.map(|key| key.number),
        note: event.note,
    }
}

fn parse_key(text: &str) -> Result<TaskKey, ApiError> {
    let expected = "expected up to 64 letters, digits, `-`, `_` and `.`, such as PROJ-123";
    TaskKey::parse(text)
        .ok_or_else(|| ApiError::BadRequest(format!("`key` is invalid: {expected}")))
}

fn checked(
    value: Option<Option<String>>,
    check: impl FnOnce(String) -> Result<String, ApiError>,
) -> Result<Option<Option<String>>, ApiError> {
    match value {
        Some(Some(text)) => check(text).map(|text| Some(Some(text))),
        other => Ok(other),
    }
}

pub(super) fn checked_title(title: String) -> Result<String, ApiError> {
    let is_title = !title.trim().is_empty() && title.chars().count() <= MAX_TITLE;
    is_title.then_some(title).ok_or_else(|| {
        ApiError::BadRequest(format!("`title` must have 1 to {MAX_TITLE} characters"))
    })
}

fn checked_repo(repo: String) -> Result<String, ApiError> {
    let wrong = |_| ApiError::BadRequest("`repo` must be owner/name".to_owned());
    HookOwner::repository(&repo).map(|_| repo).map_err(wrong)
}

fn checked_branch(branch: String) -> Result<String, ApiError> {
    let is_odd = |letter: char| letter.is_control() || letter.is_whitespace();
    let is_branch = !branch.is_empty() && !branch.starts_with('-') && !branch.contains(is_odd);
    let wrong = || ApiError::BadRequest("`branch` is not the name of a branch".to_owned());
    (is_branch && branch.chars().count() <= MAX_BRANCH)
        .then_some(branch)
        .ok_or_else(wrong)
}

fn checked_path(path: String) -> Result<String, ApiError> {
    let is_path = !path.is_empty() && !path.contains('\0') && path.len() <= MAX_PATH;
    is_path
        .then_some(path)
        .ok_or_else(|| ApiError::BadRequest("`worktree` is not a path".to_owned()))
}
