//! The pure core of Tallyhook: GitHub's ids, payloads and signatures ([`github`]), our own events
//! ([`event`]), and every rule of the domain ([`domain`]).
//!
//! **Invariant:** everything here is synchronous and pure. Time, randomness and settings are
//! arguments; the crate's `Cargo.toml` and `clippy.toml` have no runtime, no I/O and no clock.

#![warn(clippy::unwrap_used)]

pub mod backoff;
pub mod crash_point;
pub mod delivery;
pub mod domain;
pub mod event;
pub mod github;
pub mod retention;
pub mod secret;
pub mod text;
