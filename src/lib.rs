//! Tallyhook: a self-hosted GitHub event processor.
//!
//! Data flows one way: a webhook is verified and stored ([`ingest`], the inbox), turned into our
//! own events (`tallyhook_core::event`), applied to the facts ([`process`]) and read through the
//! [`api`]. `tests/it/architecture.rs` holds the arrows between modules that the compiler cannot
//! hold.

// Here and not in Cargo.toml, since tests and examples may unwrap.
#![warn(clippy::unwrap_used)]

pub mod api;
pub mod app;
pub mod call_record;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod doctor;
pub mod incoming;
pub mod ingest;
pub mod leader;
pub mod logging;
pub mod notify;
pub mod process;
pub mod relay;
pub mod renumbering;
pub mod secrets;
pub mod sync;
pub mod tasks;
pub mod telemetry;
pub mod times;
pub mod turns;
