//! The dashboard: pages over the reads of the API, in the same process and under the same roles.
//!
//! Each file below has one page, or a few that belong together, and names their paths in its
//! `routes()`. A page shows what calls of the API answer; it never reads the store by itself.

mod assets;
mod chart;
mod csv;
mod explain;
mod filters;
mod flow;
mod layout;
mod links;
mod load;
mod login;
mod overview;
mod page;
mod pull_request;
mod pull_requests;
mod routes;
mod rows;
mod waits;
mod words;

pub use self::links::Links;
pub use self::routes::{PageCall, add_routes, page_calls};
