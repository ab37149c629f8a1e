//! Tallyhook: a self-hosted GitHub event processor.
//!
//! Data flows one way: a webhook is verified and stored ([`github`], the inbox), turned into our own words
//! ([`event`]), applied to what is known ([`domain`]) and read through the API. Modules import only what stands
//! before them in this list; `tests/architecture.rs` holds that line.

// Here and not in Cargo.toml, since tests and examples may.
#![warn(clippy::unwrap_used)]

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod incoming;
pub mod ingest;
pub mod leader;
pub mod notify;
pub mod process;
pub mod relay;
pub mod sync;
pub mod tasks;
pub mod telemetry;
