//! What commands that ask GitHub have in common.

use tallyhook_github_client::{Client, Clock};

use super::{Failure, Outcome};
use crate::config::{Config, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY, GITHUB_TOKEN};

/// The client that the settings describe. `why` says what for, as in `to read pull requests`.
pub(super) fn client(config: &Config, why: &str) -> Outcome<Client> {
    let Some(credentials) = config.github_credentials.clone() else {
        return Err(Failure::Usage(format!(
            "{GITHUB_TOKEN} is not set: set it to a token {why}, or set {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}"
        )));
    };
    Ok(Client::with(
        config.github_api_url.clone(),
        credentials,
        Clock::System,
        config.sync.timeout,
    )?)
}
