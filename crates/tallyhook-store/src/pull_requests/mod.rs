//! The read side: lists and aggregates of pull requests.

mod aggregate_rows;
mod aggregates;
mod conditions;
mod filter;
mod list;
mod load;
mod row;
mod sql;
mod waiting;

pub(crate) use self::aggregates::AggregationLimit;
pub use self::aggregates::FlowNumbers;
pub(crate) use self::conditions::push_name;
pub use self::filter::{
    AggregateFilter, CalendarUse, DetailFilter, ListOrder, ListPlace, OriginRow, PartyName,
    PullRequestFilter, PullRequestRow, SortKey, StateFilter,
};
pub use self::list::LOOKED_AT;
pub use self::load::{LoadFilter, LoadParty, ReviewLoad};
pub use self::waiting::{WaitingFilter, WaitingGroup, WaitingPartyTotal, WaitingTotals};
