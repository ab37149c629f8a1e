//! Pages, as browsers get them.

mod bearer;
mod browser;
mod channels;
mod crawler;
mod dead_letters;
mod deliveries;
mod explain;
mod flow;
mod health;
mod load;
mod login;
mod members;
mod overview;
mod prs;
mod pull_request;
mod reading;
mod repositories;
mod safety;
mod settings;
mod shell;
mod story;
mod table;
mod tasks;
