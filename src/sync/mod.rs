//! Synchronisation with GitHub: what webhooks missed is fetched and put into the inbox.

pub mod backfill;
pub mod fetch;
pub mod poller;
pub mod recover;
pub mod webhook;
