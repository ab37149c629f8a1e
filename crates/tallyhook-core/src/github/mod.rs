//! GitHub's side: its ids, the parts of its payloads that are read here, its GraphQL answers and its signatures.

pub mod graphql;
/// Shapes of GitHub's payloads. They end at [`crate::event`], which has our own words for them.
pub(crate) mod payload;
pub mod signature;
pub mod types;
