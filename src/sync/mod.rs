//! Asking GitHub for what webhooks missed.

pub mod backfill;
pub mod fetch;
pub mod poller;
pub mod recover;
pub mod webhook;
