//! Tasks: made and moved by people, and by what becomes of their pull requests.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{Held, TaskId, TaskKey, TaskStatus, held};
use tallyhook_core::domain::timings::State;
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::{
    NewTask, PullRequestRow, Task, TaskCause, TaskEdit, TaskEvent, TaskPlace, TaskRef,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ErrorBody};
use super::page::{self, Page};
use super::pull_requests::{PullRequestItem, list_item};
use super::{Api, rfc3339};
use crate::tasks::linked_prs;

/// The most letters of each.
const TITLE: usize = 500;
const BRANCH: usize = 255;
const PATH: usize = 4096;
/// Entries of the history that are shown.
const HISTORY: u32 = 100;

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskItem {
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// What pull requests name it by.
    #[schema(example = "PROJ-123")]
    pub key: Option<String>,
    pub title: String,
    pub status: TaskStatus,
    /// `owner/name` of the repository it is worked on in.
    pub repo: Option<String>,
    pub branch: Option<String>,
    pub worktree: Option<String>,
    #[schema(format = "date-time")]
    pub created_at: String,
    #[schema(format = "date-time")]
    pub updated_at: String,
    /// Those that are linked to it or name its key.
    pub prs: Vec<TaskPullRequest>,
}

/// A pull request of a task, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskPullRequest {
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    /// `owner/name`
    pub repo: String,
    #[schema(value_type = i64)]
    pub number: PrNumber,
    pub title: Option<String>,
    pub state: State,
    pub html_url: Option<String>,
}

/// A task with its history.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskDetail {
    #[serde(flatten)]
    pub task: TaskItem,
    /// In what it differs from its pull requests, since a person said so after them.
    pub differs: Option<Difference>,
    /// What became of it and why, the newest first.
    pub history: Vec<HistoryItem>,
}

/// What a task would be, had nobody said otherwise since.
#[derive(Debug, Serialize, ToSchema)]
pub struct Difference {
    pub would_be: TaskStatus,
    /// The pull request that says so.
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    #[schema(value_type = i64)]
    pub pr_number: PrNumber,
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// When the cause happened.
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
    status: Option<TaskStatus>,
    /// 1 to 100, 30 unless told.
    per_page: Option<u32>,
    cursor: Option<String>,
}

type Cursor = (i64, TaskId);

/// Tasks, the newest first.
#[utoipa::path(
    get, path = "/api/tasks", tag = "tasks", operation_id = "list_tasks", security(("token" = [])), params(TasksQuery),
    responses((status = 200, body = Page<TaskItem>), (status = 400, body = ErrorBody))
)]
pub(super) async fn list(
    api: web::Data<Api>,
    query: web::Query<TasksQuery>,
) -> Result<web::Json<Page<TaskItem>>, ApiError> {
    let size = page::size(query.per_page)?;
    let cursor: Option<Cursor> = page::decode(query.cursor.as_deref())?;
    let before = cursor.and_then(|(at, id)| Some((DateTime::from_timestamp_micros(at)?, id)));
    let tasks = api.store.tasks(query.status, before, size + 1).await?;
    let keys: Vec<_> = tasks.iter().flat_map(|task| &task.prs).copied().collect();
    let rows = api.store.pull_requests_by_key(&keys).await?;
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row)).collect();
    let cursor = |task: &Task| (task.created_at.timestamp_micros(), task.id);
    Ok(web::Json(page::page(tasks, size, cursor, |task| {
        item(task, &rows)
    })))
}

/// A task to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskMade {
    /// Up to 64 letters, digits, `-`, `_` and `.`; of two tasks never the same.
    #[schema(example = "PROJ-123")]
    key: Option<String>,
    #[schema(example = "Sort the queue")]
    title: String,
    /// `TODO` unless told.
    status: Option<TaskStatus>,
    /// `owner/name`; the default repository if there is a branch and none is told.
    repo: Option<String>,
    #[schema(example = "proj-123-sort-the-queue")]
    branch: Option<String>,
    /// A path below `WORKTREE_ROOT`.
    worktree: Option<String>,
}

/// Makes a task. It follows at once the pull requests that name its key.
#[utoipa::path(
    post, path = "/api/tasks", tag = "tasks", operation_id = "create_task", security(("token" = [])),
    request_body = TaskMade,
    responses(
        (status = 201, body = TaskDetail),
        (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "there is a task of that key"),
    )
)]
pub(super) async fn create(
    api: web::Data<Api>,
    made: web::Json<TaskMade>,
) -> Result<HttpResponse, ApiError> {
    let TaskMade {
        key,
        title,
        status,
        repo,
        branch,
        worktree,
    } = made.into_inner();
    let default = || api.default_repository.clone().filter(|_| branch.is_some());
    let task = NewTask {
        id: TaskId(Uuid::new_v4()),
        key: key.as_deref().map(key_of).transpose()?,
        title: checked_title(title)?,
        status: status.unwrap_or(TaskStatus::Todo),
        place: TaskPlace {
            repo: repo.map(checked_repo).transpose()?.or_else(default),
            branch: branch.map(checked_branch).transpose()?,
            worktree: worktree.map(checked_path).transpose()?,
        },
    };
    if !api.store.create_task(&task, Utc::now()).await? {
        let key = task.key.map(|key| key.to_string()).unwrap_or_default();
        return Err(ApiError::Conflict(format!("there is a task {key} already")));
    }
    let made = api
        .store
        .task(&TaskRef::Id(task.id))
        .await?
        .ok_or(ApiError::NotFound("task"))?;
    Ok(HttpResponse::Created().json(detail(&api, made).await?))
}

/// A task by its id or key, with its history.
#[utoipa::path(
    get, path = "/api/tasks/{id}", tag = "tasks", operation_id = "get_task", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")),
    responses((status = 200, body = TaskDetail), (status = 404, body = ErrorBody))
)]
pub(super) async fn show(
    api: web::Data<Api>,
    id: web::Path<String>,
) -> Result<web::Json<TaskDetail>, ApiError> {
    let task = find(&api, &id).await?;
    Ok(web::Json(detail(&api, task).await?))
}

/// What a person changes of a task; what is left out stays, and null takes away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskChanged {
    title: Option<String>,
    /// Stays until a pull request says otherwise later.
    status: Option<TaskStatus>,
    /// `owner/name`; the default repository if a branch is told and the task has none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    repo: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    branch: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    worktree: Option<Option<String>>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes a task by hand.
#[utoipa::path(
    patch, path = "/api/tasks/{id}", tag = "tasks", operation_id = "change_task", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")), request_body = TaskChanged,
    responses((status = 200, body = TaskDetail), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn change(
    api: web::Data<Api>,
    id: web::Path<String>,
    changed: web::Json<TaskChanged>,
) -> Result<web::Json<TaskDetail>, ApiError> {
    let TaskChanged {
        title,
        status,
        repo,
        branch,
        worktree,
    } = changed.into_inner();
    let mut edit = TaskEdit {
        title: title.map(checked_title).transpose()?,
        status,
        repo: checked(repo, checked_repo)?,
        branch: checked(branch, checked_branch)?,
        worktree: checked(worktree, checked_path)?,
    };
    let task = find(&api, &id).await?;
    // As where it is made: without its repository a branch is nobody's.
    if let (Some(Some(_)), None, None) = (&edit.branch, &edit.repo, &task.place.repo) {
        edit.repo = api.default_repository.clone().map(Some);
    }
    api.store.edit_task(task.id, &edit, Utc::now()).await?;
    let task = find(&api, &id).await?;
    Ok(web::Json(detail(&api, task).await?))
}

/// Which pull request is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Linked {
    /// `owner/name`; the default repository unless told.
    repo: Option<String>,
    number: i64,
}

/// Links a pull request to a task, whatever it is called.
#[utoipa::path(
    post, path = "/api/tasks/{id}/prs", tag = "tasks", operation_id = "link_pull_request", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")), request_body = Linked,
    responses(
        (status = 201, body = TaskDetail),
        (status = 200, body = TaskDetail, description = "it is linked already"),
        (status = 404, body = ErrorBody),
    )
)]
pub(super) async fn link(
    api: web::Data<Api>,
    id: web::Path<String>,
    linked: web::Json<Linked>,
) -> Result<HttpResponse, ApiError> {
    let task = find(&api, &id).await?;
    let name = linked
        .repo
        .clone()
        .or_else(|| api.default_repository.clone());
    let name = name.ok_or_else(|| {
        ApiError::BadRequest("`repo` is missing, and there is no default one".to_owned())
    })?;
    let repo = api
        .store
        .repository_id(&name)
        .await?
        .ok_or(ApiError::NotFound("repository"))?;
    let key = PrKey {
        repo,
        number: PrNumber(linked.number),
    };
    if api.store.pull_request(key).await?.is_none() {
        return Err(ApiError::NotFound(
            "pull request here: fetch it with a backfill, or watch it",
        ));
    }
    let is_new = api.store.link_task(task.id, key, Utc::now()).await?;
    let task = find(&api, &id).await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(detail(&api, task).await?))
}

/// Undoes a link. A pull request that names the task's key stays one of it.
#[utoipa::path(
    delete, path = "/api/tasks/{id}/prs/{owner}/{repo}/{number}", tag = "tasks", operation_id = "unlink_pull_request",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "id or key"),
        ("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)
    ),
    responses((status = 204, description = "not linked any more"), (status = 404, body = ErrorBody))
)]
pub(super) async fn unlink(
    api: web::Data<Api>,
    path: web::Path<(String, String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    let (id, owner, repo, number) = path.into_inner();
    let task = find(&api, &id).await?;
    let name = format!("{owner}/{repo}");
    let repo = api
        .store
        .repository_id(&name)
        .await?
        .ok_or(ApiError::NotFound("repository"))?;
    match api
        .store
        .unlink_task(
            task.id,
            PrKey {
                repo,
                number: PrNumber(number),
            },
            Utc::now(),
        )
        .await?
    {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound("link")),
    }
}

/// The pull requests of a task, by its id or key.
#[utoipa::path(
    get, path = "/api/stories/{id}/prs", tag = "tasks", operation_id = "pull_requests_of_story",
    security(("token" = [])), params(("id" = String, Path, description = "id or key")),
    responses((status = 200, body = Page<PullRequestItem>), (status = 404, body = ErrorBody))
)]
pub(super) async fn of_story(
    api: web::Data<Api>,
    id: web::Path<String>,
) -> Result<web::Json<Page<PullRequestItem>>, ApiError> {
    let task = find(&api, &id).await?;
    let mut items: Vec<_> = api
        .store
        .pull_requests_by_key(&task.prs)
        .await?
        .into_iter()
        .map(list_item)
        .collect();
    items.sort_by(|one, two| {
        two.updated_at
            .cmp(&one.updated_at)
            .then(one.pr_id.cmp(&two.pr_id))
    });
    Ok(web::Json(Page { items, next: None }))
}

/// The task that a path names.
pub(super) async fn find(api: &Api, text: &str) -> Result<Task, ApiError> {
    let id = Uuid::parse_str(text).ok().map(|id| TaskRef::Id(TaskId(id)));
    let which = id
        .or_else(|| TaskKey::parse(text).map(TaskRef::Key))
        .ok_or(ApiError::NotFound("task"))?;
    api.store
        .task(&which)
        .await?
        .ok_or(ApiError::NotFound("task"))
}

fn item(task: Task, rows: &BTreeMap<PrKey, PullRequestRow>) -> TaskItem {
    let prs = task
        .prs
        .iter()
        .filter_map(|key| rows.get(key))
        .map(|row| TaskPullRequest {
            pr_id: PullRequest::id(row.key),
            repo: row.repo.clone(),
            number: row.key.number,
            title: row.title.clone(),
            state: row.state,
            html_url: row.html_url.clone(),
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
    }
}

pub(super) async fn detail(api: &Api, task: Task) -> Result<TaskDetail, ApiError> {
    let history = api.store.task_history(task.id, HISTORY).await?;
    let rows = api.store.pull_requests_by_key(&task.prs).await?;
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row)).collect();
    let linked = match task.state.by_hand {
        Some(_) => linked_prs(&api.store, &task).await?,
        None => Vec::new(),
    };
    let differs = held(&task.state, &linked).map(
        |Held {
             would_be,
             because,
             at,
         }| Difference {
            would_be,
            pr_id: PullRequest::id(because),
            pr_number: because.number,
            at,
        },
    );
    Ok(TaskDetail {
        task: item(task, &rows),
        differs,
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

fn key_of(text: &str) -> Result<TaskKey, ApiError> {
    let expected = "expected up to 64 letters, digits, `-`, `_` and `.`, such as PROJ-123";
    TaskKey::parse(text).ok_or_else(|| ApiError::BadRequest(format!("the key is none: {expected}")))
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
    let is_title = !title.trim().is_empty() && title.chars().count() <= TITLE;
    is_title
        .then_some(title)
        .ok_or_else(|| ApiError::BadRequest(format!("a title has 1 to {TITLE} letters")))
}

fn checked_repo(repo: String) -> Result<String, ApiError> {
    let wrong = |_| ApiError::BadRequest("`repo` is owner/name".to_owned());
    HookOwner::repository(&repo).map(|_| repo).map_err(wrong)
}

fn checked_branch(branch: String) -> Result<String, ApiError> {
    let is_odd = |letter: char| letter.is_control() || letter.is_whitespace();
    let is_branch = !branch.is_empty() && !branch.starts_with('-') && !branch.contains(is_odd);
    let wrong = || ApiError::BadRequest("`branch` is no name of a branch".to_owned());
    (is_branch && branch.chars().count() <= BRANCH)
        .then_some(branch)
        .ok_or_else(wrong)
}

fn checked_path(path: String) -> Result<String, ApiError> {
    let is_path = !path.is_empty() && !path.contains('\0') && path.len() <= PATH;
    is_path
        .then_some(path)
        .ok_or_else(|| ApiError::BadRequest("`worktree` is no path".to_owned()))
}
