//! Pages, as browsers get them.

mod overview;
mod prs;
mod reading;
mod story;
