//! Pages, as browsers get them.

mod login;
mod overview;
mod prs;
mod reading;
mod shell;
mod story;
