//! The rules, from outside: whatever the order and whatever the bodies.

mod hostile;
mod metrics;
mod notification;
mod order;
