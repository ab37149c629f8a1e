//! Pages, as browsers get them.

mod bearer;
mod browser;
mod channels;
mod dead_letters;
mod deliveries;
mod health;
mod login;
mod overview;
mod prs;
mod reading;
mod repositories;
mod safety;
mod settings;
mod shell;
mod story;
mod table;
mod tasks;
