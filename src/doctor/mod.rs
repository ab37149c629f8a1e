//! Checks of the settings, of this machine and its services, and of GitHub, each with its advice:
//! what `tallyhook doctor` and `POST /api/doctor` show.

mod calendars;
mod files;
mod finding;
mod github;
mod here;
mod inbox;
mod names;
mod secrets;
mod settings;
mod webhook;

use std::time::Duration;

use tallyhook_store::Store;
use tokio::time::timeout;

pub use self::finding::{CheckState, Finding};
use self::here::StoredForChecks;
use crate::config::Config;

/// The time limit of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of all checks at GitHub for a client that waits.
const GITHUB_TIMEOUT: Duration = Duration::from_secs(20);
/// The advice if no TLS client can be created.
const CERTIFICATES: &str = "install the certificates of authorities on this machine: most systems \
                            have them in the \
                            package ca-certificates";

/// Returns the finding of settings that cannot be read.
pub fn unreadable(error: &str) -> Finding {
    Finding::wrong(
        "settings",
        error,
        "fix it, then run `tallyhook doctor` again: the other checks need the settings",
    )
}

/// Runs all checks, of a server that may be running or not.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let (database, stored) = here::database(config).await;
    let (broker, listener, github) = tokio::join!(
        within("broker", here::broker(config)),
        within("listener", here::listener(config)),
        github::examine(config, &stored.tracked),
    );
    let services = [broker, listener].concat();
    join(config, database, services, github, &stored).await
}

/// Runs the checks of a server within its own process, in less than half a minute.
pub async fn examine_server(config: &Config, store: &Store) -> Vec<Finding> {
    let (database, stored) = here::database_in_use(config, store).await;
    let github = async {
        let examined = timeout(GITHUB_TIMEOUT, github::examine(config, &stored.tracked)).await;
        examined.unwrap_or_else(|_| vec![silent("GitHub")])
    };
    let (broker, github) = tokio::join!(within("broker", here::broker(config)), github);
    join(config, database, broker, github, &stored).await
}

/// Returns all findings in the order of the list.
async fn join(
    config: &Config,
    database: Vec<Finding>,
    services: Vec<Finding>,
    github: Vec<Finding>,
    stored: &StoredForChecks,
) -> Vec<Finding> {
    [
        settings::settings(config),
        files::secret_files(config),
        database,
        inbox::examine(stored),
        services,
        here::channels(config, &stored.channels),
        within("working trees", here::worktrees(config)).await,
        github,
    ]
    .concat()
}

/// Runs a check within the time limit.
async fn within(check: &'static str, findings: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECK_TIMEOUT, findings)
        .await
        .unwrap_or_else(|_| vec![silent(check)])
}

fn silent(check: &'static str) -> Finding {
    let found = format!("no answer within {} s", CHECK_TIMEOUT.as_secs());
    Finding::wrong(
        check,
        found,
        "check that it runs, and that no firewall drops the packets",
    )
}
