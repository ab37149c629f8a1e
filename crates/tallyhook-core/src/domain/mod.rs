//! The rules: the changes that an event makes, and the numbers. Synchronous, pure and total; time
//! is an argument.

pub mod apply;
pub mod business_time;
pub mod completeness;
mod differences;
pub mod growing;
pub mod join;
pub mod metrics;
pub mod notification;
pub mod numbers;
pub mod origin;
pub mod people;
pub mod pull_request;
pub mod recording;
pub mod repository;
pub mod review;
pub mod task;
mod timeline;
pub mod timings;
pub mod waiting;
pub mod waiting_change;
