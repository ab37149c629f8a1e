//! Pages, as browsers get them.

mod browser;
mod login;
mod safety;
mod shell;
mod table;
