//! Events of the outbox, in the order in which they were committed.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::recording::PullRequestChange;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::domain::waiting_change::{WaitedFor, WaitingChange};
use tallyhook_core::github::types::{PrKey, Timestamp};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::{Result, StoreError, TeamId};

/// The place of an event in the outbox. What is committed later has a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl EventId {
    /// Before the first.
    pub const BEGINNING: Self = Self(0);
}

/// 19 digits, so that texts are in the order of the events.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:019}", self.0)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 19 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Self).ok_or(())
    }
}

/// A change of a task's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskChange {
    pub task: TaskId,
    pub old: TaskStatus,
    pub new: TaskStatus,
    /// When the cause of it happened.
    pub at: Timestamp,
    /// The pull request that is the cause; `None` if a person is.
    pub because: Option<PrKey>,
}

/// The working tree of a task is kept although its pull request was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreeKept {
    pub task: TaskId,
    pub key: PrKey,
    pub reason: String,
    /// When it was looked at.
    pub at: Timestamp,
}

/// The daily list of one channel: what waits, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelDigest {
    pub channel: String,
    /// The time of day that the settings name, on that day.
    pub at: Timestamp,
    pub content: DigestContent,
}

/// The content of a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestContent {
    /// The date in the zone of the channel's calendar.
    pub day: NaiveDate,
    /// The number of pull requests that wait; more than there are in `items` if the list is long.
    pub total: u64,
    /// Those that wait longest, the longest first.
    pub items: Vec<DigestItem>,
}

/// An open pull request in a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestItem {
    /// `owner/name`
    pub repo: String,
    pub pr_number: i64,
    pub title: Option<String>,
    pub html_url: Option<String>,
    /// The login of its author.
    pub author: Option<String>,
    pub waiting: WaitedFor,
    /// The time from which the first party is waited for.
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxPayload {
    /// With the task that the pull request belongs to, the oldest if it is of several; of one team,
    /// by [`OutboxEvent::of_team`].
    PullRequest(PullRequestChange, Option<TaskId>),
    Task(TaskChange),
    WorktreeKept(WorktreeKept),
    /// With the task, likewise.
    Waiting(WaitingChange, Option<TaskId>),
    Digest(ChannelDigest),
}

impl OutboxPayload {
    /// Returns the pull request that it is about, or that caused it.
    pub fn pull_request(&self) -> Option<PrKey> {
        match self {
            Self::PullRequest(change, _) => Some(change.key),
            Self::Task(change) => change.because,
            Self::WorktreeKept(kept) => Some(kept.key),
            Self::Waiting(change, _) => Some(change.key),
            Self::Digest(_) => None,
        }
    }

    /// Returns the only channel that is sent it; `None` for all.
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::Digest(digest) => Some(&digest.channel),
            _ => None,
        }
    }
}

/// The pull request and the task of an event, as they are known now; unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSubject {
    pub title: Option<String>,
    pub html_url: Option<String>,
    /// The login of the pull request's author.
    pub author: Option<String>,
    pub task_key: Option<String>,
}

/// An event of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    pub id: EventId,
    /// `owner/name` of the pull request, as it was when this was learnt; `None` if a person moved a
    /// task, and for a digest.
    pub repo: Option<String>,
    pub payload: OutboxPayload,
    pub subject: EventSubject,
    /// The teams that may be notified: the one that it is of, or those that see the repository.
    pub teams: Vec<TeamId>,
    /// Of a pull request, its oldest task in each team that has one.
    pub(crate) tasks: Vec<EventTask>,
}

/// The task of an event in one team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventTask {
    pub(crate) team: TeamId,
    pub(crate) id: TaskId,
    pub(crate) key: Option<String>,
}

impl OutboxEvent {
    /// Returns the event as a team is notified of it, with the task of that team; `None` if it may
    /// not be.
    pub fn of_team(&self, team: TeamId) -> Option<Self> {
        if !self.teams.contains(&team) {
            return None;
        }
        let mut event = self.clone();
        let task = self.tasks.iter().find(|task| task.team == team);
        if let OutboxPayload::PullRequest(_, of) | OutboxPayload::Waiting(_, of) =
            &mut event.payload
        {
            *of = task.map(|task| task.id);
            event.subject.task_key = task.and_then(|task| task.key.clone());
        }
        event.tasks.clear();
        Some(event)
    }
}

/// A subscription to changes of the outbox. It may miss a change while it has no connection.
pub struct OutboxListener(pub(crate) watch::Receiver<()>);

impl OutboxListener {
    /// Waits for a change notification since the last call. Cancel-safe; may wake spuriously. A
    /// listener that does not wait holds up no other.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store is closed.
    pub async fn changed(&mut self) -> Result<()> {
        self.0.changed().await.map_err(|_| StoreError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_texts_of_the_same_order() {
        let texts = [0, 9, 10, i64::MAX].map(|id| EventId(id).to_string());
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(
            texts.map(|text| text.parse().map(|EventId(id)| id)),
            [0, 9, 10, i64::MAX].map(Ok)
        );
        for wrong in [
            "",
            "9",
            "+000000000000000009",
            "-000000000000000001",
            "9999999999999999999",
            "00000000000000000099",
        ] {
            assert_eq!(wrong.parse::<EventId>(), Err(()), "{wrong}");
        }
    }
}
