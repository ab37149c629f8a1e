//! Telling others what changed.

pub mod target;
