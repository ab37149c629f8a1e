//! Tests of the rules from outside: events in any order, bodies with any content.

mod bounds;
mod business_time;
mod daily;
mod decoration;
mod fixture_turns;
mod hostile;
mod metrics;
mod notification;
mod order;
mod origin;
mod reviewers;
mod segments;
mod statistics;
mod waiting;
mod waiting_change;
