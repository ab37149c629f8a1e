//! What each channel is told of the outbox, and what came of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{EventId, Moment, OutboxEvent};

/// How far a channel has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The last event that was looked at; each after it will be.
    pub place: EventId,
    /// Nothing is sent before.
    pub rests_until: Option<Moment>,
    /// Since something was taken there.
    pub failures: u32,
    /// What came of the last attempt that failed, and when.
    pub last_error: Option<(String, Moment)>,
}

/// A channel with what it was told so far, of the events that are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    pub name: String,
    pub state: ChannelState,
    pub told: Told,
}

/// How a channel is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub channel: String,
    /// What is still to be sent, and every event that was not looked at yet, whether or not the channel wants it.
    pub pending: u64,
    /// Since when the oldest of these waits.
    pub since: Option<Moment>,
    /// Given up, of those that are kept.
    pub dead: u64,
    /// Since something was taken there.
    pub failures: u32,
}

/// How many notifications are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    pub pending: u64,
    pub sent: u64,
    pub dead: u64,
    pub superseded: u64,
}

/// What became of a notification.
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

/// What a channel is told of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRow {
    pub event: OutboxEvent,
    pub channel: String,
    pub state: NotificationState,
    pub attempts: u32,
    pub taken_up_at: Moment,
    /// Of one that is pending.
    pub next_attempt_at: Moment,
    /// What came of the last attempt.
    pub answer: Option<String>,
    pub finished_at: Option<Moment>,
}

/// An attempt to tell a channel of an event.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub channel: &'a str,
    pub event: EventId,
    pub answer: &'a str,
    pub at: Moment,
}

/// What becomes of a notification after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Sent,
    Dead,
    /// It is tried again.
    Again(Moment),
    /// The same, and this attempt was none.
    NotNow(Moment),
}

/// What an attempt means for its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    pub until: Option<Moment>,
    /// In a row.
    pub failures: u32,
}

/// Which notifications are asked for. The newest event first.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    pub channel: Option<String>,
    pub state: Option<NotificationState>,
    /// The last one of the page before.
    pub after: Option<(EventId, String)>,
}
