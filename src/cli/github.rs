//! The GitHub client of commands, and the store that they write its answers to.

use tallyhook_github_client::{Client, Clock};
use tallyhook_store::{OpenMode, Store};

use super::{CommandFailure, CommandResult};
use crate::app;
use crate::config::{Config, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY, GITHUB_TOKEN};

/// Opens the store beside a server that may be running, to write facts of the GitHub of the
/// settings.
pub(super) async fn store(config: &Config) -> CommandResult<Store> {
    let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
    app::github_host(config, &store).await?;
    Ok(store)
}

/// Returns the client of the settings. `why` completes the error: `a token to read pull requests`.
pub(super) fn client(config: &Config, why: &str) -> CommandResult<Client> {
    let Some(credentials) = config.github_credentials.clone() else {
        return Err(CommandFailure::Usage(format!(
            "{GITHUB_TOKEN} is not set: set it to a token {why}, or set {GITHUB_APP_ID} and \
             {GITHUB_APP_PRIVATE_KEY}"
        )));
    };
    Ok(Client::with(
        config.github_api_url.clone(),
        credentials,
        Clock::System,
        config.sync.timeout,
    )?)
}
