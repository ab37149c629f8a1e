//! Checks at GitHub: the token or the App, and for each repository its access and its webhook.

use chrono::{SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook_core::text::with_causes;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_github_client::token_info::{AppInfo, AppInstallation, TokenInfo};
use tallyhook_github_client::{Client, Clock, Credentials, GithubError};
use tallyhook_store::{Moment, TrackedRepository};
use tokio::time::timeout;

use super::finding::CheckState;
use super::here::clock;
use super::{CERTIFICATES, CHECK_TIMEOUT, Finding, silent, webhook, within};
use crate::config::Config;

/// The most repositories that are checked, the default one first.
const MAX_REPOSITORIES: usize = 20;
const CONCURRENT_CHECKS: usize = 4;
/// The time without a webhook after which changes that came without one are a warning.
const QUIET_WARNING: TimeDelta = TimeDelta::days(1);
/// The time without a webhook after which a tracked repository is a warning: one in which people
/// work is rarely without for so long.
const SILENCE_WARNING: TimeDelta = TimeDelta::days(7);
/// A token that expires within this time is a warning.
const EXPIRY_WARNING: TimeDelta = TimeDelta::days(7);

/// A repository to check.
struct CheckedRepository {
    /// `owner/name`.
    name: String,
    /// `None` of the default one, if it is not tracked.
    tracked_since: Option<Moment>,
    last_delivery_at: Option<Moment>,
    missed_by_webhook: u64,
}

/// Checks the deliveries that arrived here, and GitHub's side.
pub(super) async fn examine(config: &Config, tracked: &[TrackedRepository]) -> Vec<Finding> {
    let mut repositories = repositories(config, tracked);
    let left_out = repositories.len().saturating_sub(MAX_REPOSITORIES);
    repositories.truncate(MAX_REPOSITORIES);
    let now = Utc::now();
    let mut findings: Vec<_> = repositories
        .iter()
        .map(|repository| deliveries(repository, now))
        .collect();
    findings.extend(examine_github(config, &repositories).await);
    if left_out > 0 {
        findings.push(Finding::ok(
            "repository",
            format!("{left_out} more are not checked"),
        ));
    }
    findings
}

async fn examine_github(config: &Config, repositories: &[CheckedRepository]) -> Vec<Finding> {
    let Some(credentials) = config.github_credentials.clone() else {
        return vec![no_access(config)];
    };
    let is_app = matches!(credentials, Credentials::App(_));
    let client = match Client::with(
        config.github_api_url.clone(),
        credentials,
        Clock::System,
        CHECK_TIMEOUT,
    ) {
        Ok(client) => client.once(),
        Err(error) => {
            return vec![Finding::wrong(
                "GitHub",
                with_causes(error.as_ref()),
                CERTIFICATES,
            )];
        }
    };
    let access = async {
        if is_app {
            app(&client, config.tasks.auto_pr).await
        } else {
            token(&client).await
        }
    };
    let mut findings = match timeout(CHECK_TIMEOUT, access).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => {
            let advice = "fix this first: repositories and webhooks are not checked without it";
            return vec![Finding::wrong("GitHub", error.to_string(), advice)];
        }
        Err(_) => return vec![silent("GitHub")],
    };
    let checks = stream::iter(repositories).map(|repository| {
        within("repository", async {
            check_repository(&client, repository, is_app).await
        })
    });
    findings.extend(
        checks
            .buffered(CONCURRENT_CHECKS)
            .collect::<Vec<_>>()
            .await
            .concat(),
    );
    findings
}

/// Checks the webhooks of a repository that arrived here.
fn deliveries(repository: &CheckedRepository, now: Moment) -> Finding {
    let last = repository.last_delivery_at;
    let found = match last {
        Some(at) => {
            let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            format!("the last webhook arrived at {at}")
        }
        None => "no webhook has arrived yet".to_owned(),
    };
    let is_quiet = last.is_none_or(|at| now - at > QUIET_WARNING);
    // One that was tracked just now may have none yet.
    let silent_since = repository.tracked_since.map(|since| last.unwrap_or(since));
    let is_silent = silent_since.is_some_and(|since| now - since > SILENCE_WARNING);
    let finding = match repository.missed_by_webhook {
        missed if missed > 0 && is_quiet => Finding::warning(
            "deliveries",
            format!("{found}, and polling found {missed} changes without one"),
            "make sure that GitHub has the webhook and reaches this server, then fetch what failed \
             with `tallyhook recover`",
        ),
        _ if is_silent => Finding::warning(
            "deliveries",
            found,
            "check its webhook at GitHub, under Settings, Webhooks, Recent Deliveries; none, if \
             nothing happened there or polling is enough",
        ),
        _ => Finding::ok("deliveries", found),
    };
    finding.of(&repository.name)
}

fn no_access(config: &Config) -> Finding {
    let opens = if config.tasks.auto_pr {
        ", TASK_AUTO_PR opens no pull requests"
    } else {
        ""
    };
    let found = format!(
        "neither a token nor an App is configured: no request is sent to GitHub{opens}, and it is \
         not checked"
    );
    let advice = "set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY, to fetch what \
                  webhooks miss";
    Finding::warning("GitHub", found, advice)
}

/// Returns the default repository and the tracked ones.
fn repositories(config: &Config, tracked: &[TrackedRepository]) -> Vec<CheckedRepository> {
    let is_default = |name: &str| {
        config
            .default_repository
            .as_ref()
            .is_some_and(|known| known.eq_ignore_ascii_case(name))
    };
    let mut repositories: Vec<_> = tracked
        .iter()
        .map(|known| CheckedRepository {
            name: known.name.clone(),
            tracked_since: Some(known.tracked_since),
            last_delivery_at: known.last_delivery_at,
            missed_by_webhook: known.missed_by_webhook,
        })
        .collect();
    if let Some(name) = &config.default_repository
        && !repositories.iter().any(|known| is_default(&known.name))
    {
        repositories.push(CheckedRepository {
            name: name.clone(),
            tracked_since: None,
            last_delivery_at: None,
            missed_by_webhook: 0,
        });
    }
    repositories.sort_by_key(|known| !is_default(&known.name));
    repositories
}

async fn token(client: &Client) -> Result<Vec<Finding>, GithubError> {
    let info = client.token_info().await?;
    let mut findings = vec![scopes(info.scopes.as_deref())];
    findings.extend(expiry_and_limits(&info));
    Ok(findings)
}

/// Checks the scopes of a classic token. The permissions of a fine-grained one show in the checks
/// that use them.
fn scopes(scopes: Option<&[String]>) -> Finding {
    let Some(scopes) = scopes else {
        return Finding::ok(
            "token",
            "GitHub accepts it; it is fine-grained, and its permissions show below",
        );
    };
    let has = |scope: &str| scopes.iter().any(|known| known == scope);
    let listed = if scopes.is_empty() {
        "no scope".to_owned()
    } else {
        format!("the scopes {}", scopes.join(", "))
    };
    let sees_teams = [
        "read:org",
        "write:org",
        "admin:org",
        "read:discussion",
        "write:discussion",
    ]
    .into_iter()
    .any(has);
    let sees_hooks = [
        "repo",
        "read:repo_hook",
        "write:repo_hook",
        "admin:repo_hook",
    ]
    .into_iter()
    .any(has);
    if !has("repo") && !has("public_repo") {
        let found =
            format!("GitHub accepts it, but it has {listed}: it can read public repositories only");
        Finding::warning(
            "token",
            found,
            "give it the scope repo, or public_repo if all of them are public",
        )
    } else if !sees_hooks {
        let found = format!("GitHub accepts it, but it has {listed}: it cannot read webhooks");
        Finding::warning(
            "token",
            found,
            "give it the scope admin:repo_hook, for `hook create`, `recover` and this check",
        )
    } else if !sees_teams {
        let found = format!(
            "GitHub accepts it, but it has {listed}: it cannot read the teams that are asked for a \
             review"
        );
        Finding::warning("token", found, "give it the scope read:org")
    } else {
        Finding::ok("token", format!("GitHub accepts it; it has {listed}"))
    }
}

async fn app(client: &Client, opens: bool) -> Result<Vec<Finding>, GithubError> {
    let (app, info) = client.app().await?;
    let mut findings = vec![pull_requests(&app, opens)];
    findings.extend(expiry_and_limits(&info));
    let installations = client.installations().await?;
    let login = |installation: &AppInstallation| {
        let account = installation.account.as_ref();
        account
            .and_then(|account| account.login.clone())
            .unwrap_or_else(|| "an account without a name".to_owned())
    };
    let (suspended, active): (Vec<_>, Vec<_>) = installations
        .iter()
        .partition(|installation| installation.suspended_at.is_some());
    let names = |installations: &[&_]| {
        installations
            .iter()
            .map(|one| login(one))
            .collect::<Vec<_>>()
            .join(", ")
    };
    findings.push(match (active.as_slice(), suspended.as_slice()) {
        ([], _) => Finding::wrong(
            "installations",
            "it is not installed anywhere",
            "install it where the repositories are",
        ),
        (active, []) => Finding::ok(
            "installations",
            format!("it is installed on {}", names(active)),
        ),
        (_, suspended) => Finding::warning(
            "installations",
            format!("it is suspended on {}", names(suspended)),
            "ask their owner to unsuspend it",
        ),
    });
    findings.push(webhook::of_app(client, &app).await);
    Ok(findings)
}

/// Checks the permissions of an App on pull requests; `opens` if it opens those of tasks.
fn pull_requests(app: &AppInfo, opens: bool) -> Finding {
    let known = format!("GitHub knows it as {}", app.name);
    match app.permissions.get("pull_requests").map(String::as_str) {
        None => Finding::wrong(
            "App",
            format!("{known}; it may not read pull requests"),
            match opens {
                true => {
                    "give it read access to issues, contents and merge queues, and write access to \
                     pull requests"
                }
                false => "give it read access to pull requests, issues, contents and merge queues",
            },
        ),
        Some("read") if opens => Finding::warning(
            "App",
            format!(
                "{known}; it may read pull requests but not open them, which TASK_AUTO_PR needs"
            ),
            "give it write access to pull requests, and accept the change where it is installed",
        ),
        Some("read") => Finding::ok(
            "App",
            format!("{known}; it may read pull requests, but not open those of tasks"),
        ),
        Some(right) => Finding::ok(
            "App",
            format!("{known}; its permission on pull requests is {right}"),
        ),
    }
}

/// Checks expiry, rate limit and clock, which a token and an App have in common.
fn expiry_and_limits(info: &TokenInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(expires_at) = info.expires_at {
        let found = format!(
            "it is valid until {}",
            expires_at.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
        findings.push(match expires_at - Utc::now() < EXPIRY_WARNING {
            true => Finding::warning(
                "token's end",
                found,
                "create a new one before that, and set GITHUB_TOKEN to it",
            ),
            false => Finding::ok("token's end", found),
        });
    }
    findings.push(match info.allowance {
        None => Finding::ok("rate limit", "GitHub sends none"),
        Some((remaining, limit)) if remaining < limit / 10 => Finding::warning(
            "rate limit",
            format!("{remaining} of {limit} requests remain in this hour"),
            "wait; if it stays low, find out what else uses this token",
        ),
        Some((remaining, limit)) => Finding::ok(
            "rate limit",
            format!("{remaining} of {limit} requests remain in this hour"),
        ),
    });
    findings.extend(info.clock_ahead.map(|ahead| clock("GitHub", ahead)));
    findings
}

async fn check_repository(
    client: &Client,
    repository: &CheckedRepository,
    is_app: bool,
) -> Vec<Finding> {
    let CheckedRepository {
        name,
        last_delivery_at,
        ..
    } = repository;
    let access = read_access(client, name).await;
    let is_readable = access.state == CheckState::Ok;
    let mut findings = vec![access.of(name)];
    // An App has one webhook for all repositories.
    if let (false, Ok(owner)) = (is_app, HookOwner::repository(name)) {
        findings.push(
            webhook::of_repository(client, &owner, *last_delivery_at)
                .await
                .of(name),
        );
    }
    if is_readable {
        findings.push(pull_request_query(client, name).await.of(name));
    }
    findings
}

/// Checks that GitHub answers the query for pull requests, and all of its parts.
async fn pull_request_query(client: &Client, name: &str) -> Finding {
    let page = match client.pull_request_page(name, 1, None, true).await {
        Ok(page) => page,
        Err(error) => {
            let advice = "give the token the scope repo, or the permission to read pull requests";
            return Finding::wrong("pull requests", error.to_string(), advice);
        }
    };
    let unknown = client.unknown_facts();
    let fetched = &page.pull_requests;
    let withheld = fetched
        .complete
        .iter()
        .find_map(|one| one.left_out.as_ref());
    let failed = fetched.failures.first();
    let total = page.total.unwrap_or_default();
    if !unknown.is_empty() {
        let found = format!("{total} can be fetched, but without {}", unknown.join(", "));
        let advice = "give the token the scope that GitHub names; a schema without it is of a \
                      server that is too old, and the numbers do without";
        Finding::warning("pull requests", found, advice)
    } else if let Some(failure) = failed {
        let found = format!("#{} cannot be fetched: {}", failure.number, failure.reason);
        let advice = "retry later; GitHub says why it has none";
        Finding::warning("pull requests", found, advice)
    } else if let Some(reason) = withheld {
        let found = format!("{total} can be fetched, but GitHub withholds parts: {reason}");
        let advice = "give the token or App the permission that GitHub names";
        Finding::warning("pull requests", found, advice)
    } else {
        Finding::ok("pull requests", format!("{total} can be fetched"))
    }
}

/// Checks that a repository can be read.
async fn read_access(client: &Client, name: &str) -> Finding {
    match client.repository(name).await {
        Ok(info) if !info.full_name.eq_ignore_ascii_case(name) => Finding::ok(
            "repository",
            format!("it can be read; its name is {} now", info.full_name),
        ),
        Ok(info) if info.archived => Finding::ok("repository", "it can be read; it is archived"),
        Ok(_) => Finding::ok("repository", "it can be read"),
        Err(error) => {
            let advice = "give the token or App access to it, \
                          or stop tracking it: DELETE /api/repos/{owner}/{repo}";
            Finding::wrong("repository", error.to_string(), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_repository_without_a_webhook_for_a_week_is_a_warning() {
        let now = Utc::now();
        let days_ago = |days: Option<i64>| days.map(|days| now - TimeDelta::days(days));
        for (tracked, last, missed, state) in [
            (None, None, 0, CheckState::Ok),
            (Some(1), None, 0, CheckState::Ok),
            (Some(8), None, 0, CheckState::Warning),
            (Some(30), Some(6), 0, CheckState::Ok),
            (Some(30), Some(8), 0, CheckState::Warning),
            (Some(30), Some(2), 1, CheckState::Warning),
            (Some(30), Some(0), 1, CheckState::Ok),
        ] {
            let repository = CheckedRepository {
                name: "acme/api".to_owned(),
                tracked_since: days_ago(tracked),
                last_delivery_at: days_ago(last),
                missed_by_webhook: missed,
            };
            let found = deliveries(&repository, now);
            assert_eq!(found.state, state, "{tracked:?} {last:?} {missed}");
        }
    }
}
