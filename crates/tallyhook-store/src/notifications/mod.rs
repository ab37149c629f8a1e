//! Notifications: the events each channel is sent, and the result of each attempt.

mod channel;
mod row;
mod sql;

pub use self::channel::{
    Attempt, Backlog, ChannelRecord, ChannelState, Next, NotificationFilter, NotificationRow,
    NotificationState, Rest, Told,
};
