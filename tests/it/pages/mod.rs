//! Pages, as browsers get them.

mod bearer;
mod channels;
mod health;
mod repositories;
mod settings;
mod tasks;
