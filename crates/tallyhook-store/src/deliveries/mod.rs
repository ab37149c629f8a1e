//! Deliveries, the inbox: every delivery that was accepted, and its state.

mod body;
mod delivery;
mod group_commit;
mod postgres;
mod row;
mod sql;
mod sqlite;

pub use self::body::StoredBody;
pub use self::delivery::{
    Accepted, Claim, Counts, DeadGroup, DeadLike, DeadSelection, Delivery, DeliveryFilter,
    DeliveryState, Exhausted, Failure, NewDelivery, NewState, Purged, Unfinished, Waiting,
    portions,
};
pub(crate) use self::group_commit::{CommitTarget, GroupCommit};
