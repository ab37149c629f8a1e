//! Pages, as browsers get them.

mod login;
mod shell;
