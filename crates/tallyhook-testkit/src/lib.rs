//! Shared equipment of the tests, examples and benches: payloads, histories and fixtures; with the
//! feature `github` also a fake GitHub, and with `server` servers and processes of Tallyhook, and
//! databases and brokers of a test's own.

mod fixtures;
pub mod histories;
pub mod laws;
pub mod payloads;
pub mod reviewing;

#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod conformity;
#[cfg(feature = "server")]
pub mod database;
#[cfg(feature = "server")]
pub mod git;
#[cfg(feature = "github")]
pub mod github;
#[cfg(feature = "server")]
pub mod html;
#[cfg(feature = "server")]
mod million;
#[cfg(feature = "server")]
mod place;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "server")]
pub mod receiver;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
pub mod socket;

use std::time::Duration;

use tallyhook_core::github::signature::Secrets;
use tallyhook_core::github::types::RepoId;

pub use fixtures::{Fixture, fixture_files, fixtures, recorded_data, root};
#[cfg(feature = "server")]
pub use million::Million;
#[cfg(feature = "server")]
pub use place::Place;
#[cfg(feature = "server")]
pub use server::{TestServer, assert_refused, config, eventually};

/// The webhook secret of the tests' servers.
pub const SECRET: &str = "a secret of the tests";
/// The admin token of the tests' servers.
pub const TOKEN: &str = "tallyhook_token_of_the_tests";
/// The limit of every wait; nothing that is waited for takes this long.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Returns GitHub's id of the repository in the payloads.
pub fn repo_id() -> RepoId {
    RepoId(payloads::World::acme().repo_id)
}

/// Returns the `X-Hub-Signature-256` header of a body under [`SECRET`].
pub fn sign(body: &[u8]) -> String {
    Secrets::single(SECRET).unwrap().sign(body).to_header()
}
