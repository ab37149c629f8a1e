//! Pages, as browsers get them.

mod bearer;
mod repositories;
