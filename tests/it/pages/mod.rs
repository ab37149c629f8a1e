//! Pages, as browsers get them.

mod explain;
mod flow;
mod load;
mod overview;
mod prs;
mod pull_request;
mod reading;
mod story;
