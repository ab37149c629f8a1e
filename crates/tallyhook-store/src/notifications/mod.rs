//! Notifications: the events each channel is sent, and the result of each attempt.

mod channel;
mod digest;
mod row;
mod sql;

pub use self::channel::{
    AttemptResult, ChannelBacklog, ChannelPause, ChannelRecord, ChannelState, NotificationAttempt,
    NotificationCounts, NotificationFilter, NotificationRow, NotificationState,
};
pub use self::digest::DigestRepositories;
