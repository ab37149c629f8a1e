//! Pages, as browsers get them.

mod browser;
mod login;
mod overview;
mod prs;
mod reading;
mod safety;
mod shell;
mod story;
mod table;
