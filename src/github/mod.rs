//! GitHub's side: its ids, the parts of its payloads that are read here, and its signatures.

pub mod payload;
pub mod signature;
pub mod types;
