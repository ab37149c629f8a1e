//! Deliveries, the inbox: every delivery that was accepted, and its state.

mod body;
mod delivery;
mod group_commit;
mod lag;
mod list;
mod postgres;
mod retention;
mod row;
mod sql;
mod sqlite;

pub use self::body::StoredBody;
pub use self::delivery::{
    AcceptOutcome, ClaimedDeliveries, DeadLetterGroup, DeadLetterMatch, DeadLetterSelection,
    Delivery, DeliveryCounts, DeliveryFailure, DeliveryState, ExhaustedDelivery, NewDelivery,
    NewState, PendingDelivery, PurgeCounts, UnfinishedDelivery, portions,
};
pub(crate) use self::group_commit::{CommitTarget, GroupCommit};
pub use self::list::{DELIVERIES_LOOKED_AT, DISCARDED, DeliveryFilter, NO_REPOSITORY};
