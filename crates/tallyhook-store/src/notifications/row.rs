//! Channels and notifications as rows.

use sqlx::FromRow;

use crate::columns::{Millis, Name};
use crate::outbox::OutboxRow;
use crate::{ChannelBacklog, ChannelState, EventId, NotificationRow, NotificationState};

#[derive(FromRow)]
pub(crate) struct ChannelRow {
    pub(crate) team_id: i64,
    pub(crate) name: String,
    place: i64,
    rests_until: Option<Millis>,
    failures: i64,
    last_error: Option<String>,
    last_error_at: Option<Millis>,
    digest_day: Option<String>,
}

impl From<ChannelRow> for ChannelState {
    fn from(row: ChannelRow) -> Self {
        Self {
            place: EventId(row.place),
            rests_until: row.rests_until.map(|Millis(at)| at),
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
            last_error: row.last_error.zip(row.last_error_at.map(|Millis(at)| at)),
            digest_day: row.digest_day.and_then(|day| day.parse().ok()),
        }
    }
}

#[derive(FromRow)]
pub(crate) struct BacklogRow {
    name: String,
    failures: i64,
    pending: i64,
    since: Option<Millis>,
    dead: i64,
    unseen: i64,
    unseen_since: Option<Millis>,
}

impl From<BacklogRow> for ChannelBacklog {
    fn from(row: BacklogRow) -> Self {
        Self {
            channel: row.name,
            pending: row.pending.unsigned_abs() + row.unseen.unsigned_abs(),
            since: row
                .since
                .into_iter()
                .chain(row.unseen_since)
                .map(|Millis(at)| at)
                .min(),
            dead: row.dead.unsigned_abs(),
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        }
    }
}

#[derive(FromRow)]
pub(crate) struct CountRow {
    pub(crate) team_id: i64,
    pub(crate) channel: String,
    pub(crate) state: Name<NotificationState>,
    pub(crate) notifications: i64,
}

#[derive(FromRow)]
pub(crate) struct JoinedNotificationRow {
    #[sqlx(flatten)]
    event: OutboxRow,
    channel: String,
    state: Name<NotificationState>,
    attempts: i64,
    taken_up_at: Millis,
    next_attempt_at: Millis,
    answer: Option<String>,
    finished_at: Option<Millis>,
    held_until: Option<Millis>,
}

impl TryFrom<JoinedNotificationRow> for NotificationRow {
    type Error = sqlx::Error;

    /// # Errors
    /// Those of the event.
    fn try_from(row: JoinedNotificationRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            event: row.event.try_into()?,
            channel: row.channel,
            state: row.state.0,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            taken_up_at: row.taken_up_at.0,
            next_attempt_at: row.next_attempt_at.0,
            answer: row.answer,
            finished_at: row.finished_at.map(|Millis(at)| at),
            held_until: row.held_until.map(|Millis(at)| at),
        })
    }
}
