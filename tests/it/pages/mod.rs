//! Pages, as browsers get them.

mod bearer;
mod browser;
mod dead_letters;
mod deliveries;
mod login;
mod overview;
mod prs;
mod reading;
mod repositories;
mod safety;
mod shell;
mod story;
mod table;
