//! The dashboard: pages over the reads of the API, in the same process and under the same roles.
//!
//! Each file below has one page, or a few that belong together, and names their paths in its
//! `routes()`. A page shows what calls of the API answer; it never reads the store by itself.

mod assets;
mod audit;
mod channels;
mod chart;
mod csv;
mod dead_letters;
mod deliveries;
mod delivery;
mod explain;
mod filters;
mod flow;
mod health;
mod invitation;
mod layout;
mod letter_decisions;
mod links;
mod load;
mod login;
mod members;
mod overview;
mod page;
mod preferences;
mod pull_request;
mod pull_requests;
mod repositories;
mod repository;
mod routes;
mod rows;
mod settings;
mod sign_in;
mod sync_run;
mod task;
mod tasks;
mod teams;
mod waits;
mod words;

pub use self::links::Links;
pub use self::routes::{PageCall, add_routes, is_taken, page_calls};
