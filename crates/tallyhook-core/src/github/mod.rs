//! GitHub's formats: its ids, the used parts of its payloads, its GraphQL answers and its
//! signatures.

pub mod graphql;
pub mod host;
/// The shapes of GitHub's payloads. They end at [`crate::event`], which converts them to our own
/// events.
pub(crate) mod payload;
pub mod signature;
pub mod types;
