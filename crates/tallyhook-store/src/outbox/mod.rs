//! The outbox: events to be notified of, in the order in which they were committed.

mod event;
mod row;
mod sql;

pub use self::event::{
    ChannelDigest, DigestContent, DigestItem, EventId, EventSubject, OutboxEvent, OutboxListener,
    OutboxPayload, TaskChange, WorktreeKept,
};
pub(crate) use self::row::OutboxRow;
pub(crate) use self::sql::{
    NewOutboxEvent, add_task_keys, append_events, notified_changes, notified_repository,
    tasks_by_pull_request,
};
