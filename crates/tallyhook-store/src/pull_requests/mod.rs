//! The read side: lists and aggregates of pull requests.

mod aggregates;
mod filter;
mod list;
mod row;
mod sql;

pub(crate) use self::aggregates::AggregationLimit;
pub use self::filter::{
    AggregateFilter, CalendarUse, OriginRow, PullRequestFilter, PullRequestRow, StateFilter,
};
pub(crate) use self::list::push_name;
