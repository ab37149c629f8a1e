//! GitHub's side: its ids, the parts of its payloads that are read here, its signatures, and a client of its API.

pub mod client;
pub mod graphql;
pub mod payload;
pub mod signature;
pub mod types;
