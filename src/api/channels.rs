//! Channels, what they are told, and whether they can be.

use actix_web::web;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::notification::Kind;
use tallyhook_store::{
    ChannelRecord, EventId, NotificationCounts, NotificationFilter, NotificationRow,
    NotificationState, Result as StoreResult, Store,
};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::page::{self, Page};
use super::{Api, rfc3339};
use crate::notify::{Channel, ChannelKind, Channels, Notification, Tried};

/// A channel of the settings, and how far it has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelItem {
    #[schema(example = "slack")]
    pub name: String,
    pub kind: ChannelKind,
    /// Scheme, host and port of where it sends; the rest may be a secret.
    #[schema(example = "https://hooks.slack.com")]
    pub origin: String,
    /// Only of these, `owner/name` or `owner/*`; null if of all.
    pub repos: Option<Vec<String>>,
    /// Only these; null if all.
    pub kinds: Option<Vec<Kind>>,
    /// The last event that was looked at; null until a worker has seen this channel.
    pub place: Option<String>,
    /// Of the events that are still there.
    pub told: NotificationCounts,
    /// Attempts in a row that found the receiver broken.
    pub failures: u32,
    /// Nothing is sent before.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub rests_until: Option<String>,
    /// What came of the last attempt that failed.
    pub last_error: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_error_at: Option<String>,
}

/// What a channel is told of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationItem {
    pub channel: String,
    pub state: NotificationState,
    pub attempts: u32,
    #[schema(value_type = String, format = "date-time")]
    pub taken_up_at: String,
    /// While it is pending.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_attempt_at: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub finished_at: Option<String>,
    /// The receiver's answer to the last attempt, or why there is none.
    pub answer: Option<String>,
    pub notification: Notification,
}

/// Every channel of the settings.
///
/// # Errors
/// If the database fails.
pub async fn items(channels: &Channels, store: &Store) -> StoreResult<Vec<ChannelItem>> {
    let mut records = store.channels().await?;
    let of = |channel: &Channel| {
        let at = records
            .iter()
            .position(|record| record.name == channel.name);
        item(channel, at.map(|at| records.swap_remove(at)))
    };
    Ok(channels.iter().map(of).collect())
}

fn item(channel: &Channel, record: Option<ChannelRecord>) -> ChannelItem {
    let (state, told) = record.map(|record| (record.state, record.told)).unzip();
    let last_error = state.as_ref().and_then(|state| state.last_error.clone());
    let (last_error, last_error_at) = last_error.unzip();
    ChannelItem {
        name: channel.name.clone(),
        kind: channel.kind,
        origin: channel.origin(),
        repos: channel.filter.repos.clone(),
        kinds: channel.filter.kinds.clone(),
        place: state.as_ref().map(|state| state.place.to_string()),
        told: told.unwrap_or_default(),
        failures: state.as_ref().map_or(0, |state| state.failures),
        rests_until: state
            .and_then(|state| state.rests_until)
            .filter(|until| *until > Utc::now())
            .map(rfc3339),
        last_error,
        last_error_at: last_error_at.map(rfc3339),
    }
}

/// Channels: where notifications are sent, and how far each has come.
#[utoipa::path(
    get, path = "/api/channels", tag = "notifications", operation_id = "list_channels", security(("token" = [])),
    responses((status = 200, body = Page<ChannelItem>))
)]
pub(super) async fn list(api: web::Data<Api>) -> Result<web::Json<Page<ChannelItem>>, ApiError> {
    Ok(web::Json(Page {
        items: items(&api.channels, &api.store).await?,
        next: None,
    }))
}

/// Sends a message to a channel that says of itself that it is a test.
#[utoipa::path(
    post, path = "/api/channels/{name}/test", tag = "notifications", operation_id = "test_channel",
    security(("token" = [])), params(("name" = String, Path)),
    responses(
        (status = 200, body = Tried, description = "`ok` tells whether the receiver took it"),
        (status = 404, body = ErrorBody),
    )
)]
pub(super) async fn test(
    api: web::Data<Api>,
    name: web::Path<String>,
) -> Result<web::Json<Tried>, ApiError> {
    let channel = api
        .channels
        .named(&name)
        .ok_or(ApiError::NotFound("channel"))?;
    Ok(web::Json(api.channels.test(channel, Utc::now()).await))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NotificationsQuery {
    channel: Option<String>,
    state: Option<NotificationState>,
    /// 1 to 100, 30 unless told.
    per_page: Option<u32>,
    cursor: Option<String>,
}

/// What channels were told and are to be told, the newest event first.
#[utoipa::path(
    get, path = "/api/notifications", tag = "notifications", operation_id = "list_notifications",
    security(("token" = [])), params(NotificationsQuery),
    responses((status = 200, body = Page<NotificationItem>), (status = 400, body = ErrorBody))
)]
pub(super) async fn notifications(
    api: web::Data<Api>,
    query: web::Query<NotificationsQuery>,
) -> Result<web::Json<Page<NotificationItem>>, ApiError> {
    let NotificationsQuery {
        channel,
        state,
        per_page,
        cursor,
    } = query.into_inner();
    let size = page::size(per_page)?;
    let after: Option<(i64, String)> = page::decode(cursor.as_deref())?;
    let filter = NotificationFilter {
        channel,
        state,
        after: after.map(|(event, channel)| (EventId(event), channel)),
    };
    let rows = api.store.notifications(&filter, size + 1).await?;
    Ok(web::Json(page::page(
        rows,
        size,
        |row| (row.event.id.0, row.channel.clone()),
        notification,
    )))
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
