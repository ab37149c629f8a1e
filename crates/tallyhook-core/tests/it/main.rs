//! Tests of the rules from outside: events in any order, bodies with any content.

mod bounds;
mod decoration;
mod hostile;
mod metrics;
mod notification;
mod order;
mod reviewers;
