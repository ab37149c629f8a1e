//! Pages, as browsers get them.

mod browser;
mod safety;
mod table;
