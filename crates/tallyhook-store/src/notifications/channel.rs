//! Channels and their notifications.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{EventId, Moment, OutboxEvent, TeamId};

/// The progress of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The last event that was looked at; each later one still will be.
    pub place: EventId,
    /// Nothing is sent before.
    pub rests_until: Option<Moment>,
    /// Since something was taken there.
    pub failures: u32,
    /// The error of the last attempt that failed, and its time.
    pub last_error: Option<(String, Moment)>,
    /// The date of its last digest, in the zone of its calendar.
    pub digest_day: Option<NaiveDate>,
}

/// A channel with the counts of its notifications of the events that are still stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    pub team: TeamId,
    pub name: String,
    pub state: ChannelState,
    pub counts: NotificationCounts,
}

/// The backlog of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBacklog {
    pub channel: String,
    /// The number of pending notifications, and of every event that was not looked at yet, whether
    /// or not the channel wants it.
    pub pending: u64,
    /// Since when the oldest of these waits.
    pub since: Option<Moment>,
    /// Given up, of those that are kept.
    pub dead: u64,
    /// Since something was taken there.
    pub failures: u32,
}

/// The number of notifications in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Told)]
pub struct NotificationCounts {
    pub pending: u64,
    pub sent: u64,
    pub dead: u64,
    pub superseded: u64,
}

/// The state of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationState {
    Pending,
    /// The receiver took it.
    Sent,
    /// It was given up.
    Dead,
    /// Something newer about the same was sent before it could be.
    Superseded,
}

/// The notification of one event to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRow {
    pub event: OutboxEvent,
    pub channel: String,
    pub state: NotificationState,
    pub attempts: u32,
    pub taken_up_at: Moment,
    /// Of one that is pending.
    pub next_attempt_at: Moment,
    /// The answer to the last attempt.
    pub answer: Option<String>,
    pub finished_at: Option<Moment>,
    /// The end of the quiet hours of its channel in which it was due.
    pub held_until: Option<Moment>,
}

/// An attempt to notify a channel of an event.
#[derive(Clone, Copy, Debug)]
pub struct NotificationAttempt<'a> {
    pub channel: &'a str,
    pub event: EventId,
    pub answer: &'a str,
    pub at: Moment,
}

/// The result of an attempt at a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Sent,
    Dead,
    /// It is tried again.
    RetryAt(Moment),
    /// The same, and this attempt was none.
    DeferredTo(Moment),
}

/// The pause of a channel after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPause {
    pub until: Option<Moment>,
    /// In a row.
    pub failures: u32,
}

/// A filter of notifications. The newest event first.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    pub channel: Option<String>,
    pub state: Option<NotificationState>,
    /// The last one of the page before.
    pub after: Option<(EventId, String)>,
}
