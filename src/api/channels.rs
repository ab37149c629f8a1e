//! Channels and the notifications that were sent to them.

use actix_web::{HttpResponse, get, post, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::notification::NotificationKind;
use tallyhook_store::{
    ChannelRecord, EventId, NotificationCounts, NotificationFilter, NotificationRow,
    NotificationState, Result as StoreResult, Store, TeamStore,
};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiErrorBody};
use super::input::QueryInput;
use super::page::{self, ListCount, Page, PageSize};
use super::rfc3339;
use super::team_api::TeamApi;
use crate::notify::{Channel, ChannelKind, ChannelTestResult, Channels, Notification};

/// A channel of the settings with its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelItem {
    #[schema(example = "slack")]
    pub name: String,
    pub kind: ChannelKind,
    /// Scheme, host and port of its URL; the rest may be a secret.
    #[schema(example = "https://hooks.slack.com")]
    pub origin: String,
    /// Repositories to notify about, `owner/name` or `owner/*`; null for all.
    pub repos: Option<Vec<String>>,
    /// Kinds of notifications; null for all.
    pub kinds: Option<Vec<NotificationKind>>,
    /// The last event that was processed for this channel; null until a worker has opened it.
    pub place: Option<String>,
    /// Notifications by state, of the events that are still kept.
    pub told: NotificationCounts,
    /// Failed attempts in a row.
    pub failures: u32,
    /// The time until which nothing is sent.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub rests_until: Option<String>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_error_at: Option<String>,
}

/// The notification of a channel about one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationItem {
    pub channel: String,
    pub state: NotificationState,
    pub attempts: u32,
    #[schema(value_type = String, format = "date-time")]
    pub taken_up_at: String,
    /// Null unless it is pending.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_attempt_at: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub finished_at: Option<String>,
    /// The receiver's answer to the last attempt, or the reason why there is none.
    pub answer: Option<String>,
    pub notification: Notification,
}

/// Returns every channel of the settings.
///
/// # Errors
/// If the database fails.
pub async fn items(channels: &Channels, store: &Store) -> StoreResult<Vec<ChannelItem>> {
    let mut records = store.channels().await?;
    let items = channels
        .iter()
        .map(|channel| known_item(channel, &mut records));
    Ok(items.collect())
}

/// Returns a channel with its record, which is taken from the list.
fn known_item(channel: &Channel, records: &mut Vec<ChannelRecord>) -> ChannelItem {
    let mut known = records.iter();
    let at = known.position(|record| (record.team, &record.name) == (channel.team, &channel.name));
    item(channel, at.map(|at| records.swap_remove(at)))
}

fn item(channel: &Channel, record: Option<ChannelRecord>) -> ChannelItem {
    let (state, counts) = record.map(|record| (record.state, record.counts)).unzip();
    let last_error = state.as_ref().and_then(|state| state.last_error.clone());
    let (last_error, last_error_at) = last_error.unzip();
    ChannelItem {
        name: channel.name.clone(),
        kind: channel.kind,
        origin: channel.origin(),
        repos: channel.filter.repos.clone(),
        kinds: channel.filter.kinds.clone(),
        place: state.as_ref().map(|state| state.place.to_string()),
        told: counts.unwrap_or_default(),
        failures: state.as_ref().map_or(0, |state| state.failures),
        rests_until: state
            .and_then(|state| state.rests_until)
            .filter(|until| *until > Utc::now())
            .map(rfc3339),
        last_error,
        last_error_at: last_error_at.map(rfc3339),
    }
}

/// The channels of the settings with their progress.
#[utoipa::path(
    tag = "notifications", operation_id = "list_channels", security(("token" = [])),
    responses((status = 200, body = Page<ChannelItem>))
)]
#[get("/channels")]
pub(super) async fn list(api: TeamApi) -> Result<web::Json<Page<ChannelItem>>, ApiError> {
    Ok(web::Json(Page::new(api.channel_items().await?, None)))
}

impl TeamApi {
    /// Answers as `GET /api/channels`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn channel_items(&self) -> Result<Vec<ChannelItem>, ApiError> {
        let mut records = self.store.channels().await?;
        let channels = self.team_channels();
        Ok(channels
            .map(|channel| known_item(channel, &mut records))
            .collect())
    }

    /// Makes a notification that was given up pending again, with all attempts, as `POST
    /// /api/notifications/{event_id}/{channel}/retry`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn retry_notification(
        &self,
        event_id: &str,
        channel: &str,
    ) -> Result<(), ApiError> {
        let dead = ApiError::NotFound("notification that was given up");
        // No worker sends for a channel that is not in the settings.
        let channel = self.channel(channel);
        let channel = channel.ok_or(ApiError::NotFound("channel"))?;
        let Ok(event) = event_id.parse::<EventId>() else {
            return Err(dead);
        };
        let retried = self
            .store
            .retry_notification(&channel.name, event, Utc::now());
        if retried.await? { Ok(()) } else { Err(dead) }
    }

    /// Sends a test message as `POST /api/channels/{name}/test`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn test_channel(&self, name: &str) -> Result<ChannelTestResult, ApiError> {
        let channel = self.channel(name);
        let channel = channel.ok_or(ApiError::NotFound("channel"))?;
        Ok(self.channels.test(channel, Utc::now()).await)
    }
}

/// Sends a test message to a channel.
#[utoipa::path(
    tag = "notifications", operation_id = "test_channel",
    security(("token" = [])), params(("name" = String, Path)),
    responses(
        (status = 200, body = ChannelTestResult,
            description = "`ok` is true if the receiver accepted it"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[post("/channels/{name}/test")]
pub(super) async fn test(
    api: TeamApi,
    name: web::Path<String>,
) -> Result<web::Json<ChannelTestResult>, ApiError> {
    Ok(web::Json(api.test_channel(&name).await?))
}

/// A notification that is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetriedNotification {
    #[schema(example = "pending")]
    status: &'static str,
    channel: String,
    event_id: String,
}

/// Sends a notification again that was given up. It has the same `event_id`, by which a receiver that
/// took an earlier attempt knows it. It is superseded where something newer about the same was sent.
#[utoipa::path(
    tag = "notifications", operation_id = "retry_notification", security(("token" = [])),
    params(
        ("event_id" = String, Path, description = "the `event_id` of the notification"),
        ("channel" = String, Path, description = "the name of the channel"),
    ),
    responses(
        (status = 202, body = RetriedNotification, description = "pending again"),
        (status = 404, description = "no channel of the settings has this name, or it has no \
            such notification that was given up", body = ApiErrorBody),
    )
)]
#[post("/notifications/{event_id}/{channel}/retry")]
pub(super) async fn retry(
    api: TeamApi,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (event_id, channel) = path.into_inner();
    api.retry_notification(&event_id, &channel).await?;
    Ok(HttpResponse::Accepted().json(RetriedNotification {
        status: "pending",
        channel,
        event_id,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NotificationsQuery {
    /// The name of a channel.
    channel: Option<String>,
    /// The state of the notifications.
    state: Option<NotificationState>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Sent and pending notifications of all channels, the newest event first.
#[utoipa::path(
    tag = "notifications", operation_id = "list_notifications",
    security(("token" = [])), params(NotificationsQuery),
    responses((status = 200, body = Page<NotificationItem>), (status = 400, body = ApiErrorBody))
)]
#[get("/notifications")]
pub(super) async fn list_notifications(
    api: TeamApi,
    QueryInput(query): QueryInput<NotificationsQuery>,
) -> Result<web::Json<Page<NotificationItem>>, ApiError> {
    Ok(web::Json(listed(&api.store, query).await?))
}

pub(super) async fn listed(
    store: &TeamStore,
    query: NotificationsQuery,
) -> Result<Page<NotificationItem>, ApiError> {
    let NotificationsQuery {
        channel,
        state,
        count,
        per_page,
        cursor,
    } = query;
    let size = per_page.unwrap_or_default();
    let after: Option<(i64, String)> = page::decode(cursor.as_deref())?;
    let filter = NotificationFilter {
        channel,
        state,
        after: after.map(|(event, channel)| (EventId(event), channel)),
    };
    let n = match count {
        Some(true) => Some(store.count_notifications(&filter).await?),
        _ => None,
    };
    let rows = store.notifications(&filter, size.rows()).await?;
    let place = |row: &NotificationRow| (row.event.id.0, row.channel.clone());
    Ok(Page {
        count: n.map(|n| ListCount { n, exact: true }),
        ..page::page(rows, size, place, notification)
    })
}

fn notification(row: NotificationRow) -> NotificationItem {
    let is_pending = row.state == NotificationState::Pending;
    NotificationItem {
        channel: row.channel,
        state: row.state,
        attempts: row.attempts,
        taken_up_at: rfc3339(row.taken_up_at),
        next_attempt_at: is_pending.then(|| rfc3339(row.next_attempt_at)),
        finished_at: row.finished_at.map(rfc3339),
        answer: row.answer,
        notification: row.event.into(),
    }
}
