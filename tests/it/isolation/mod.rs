//! Isolation of teams, generated from the OpenAPI document: whatever is of another team answers like
//! an id that does not exist, no list has a trace of it, and a busy other team changes no answer.

mod differential;
mod generated;
#[cfg(feature = "planted-leaks")]
mod leaks;
mod sockets;
mod tables;
mod world;
