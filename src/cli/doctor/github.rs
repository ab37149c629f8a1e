//! What GitHub knows of us: the token or the App, and of each repository whether it is seen and tells of itself.

use chrono::{SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_github_client::standing::{AppInfo, InstalledOn, Standing};
use tallyhook_github_client::{Client, Clock, Credentials, GithubError};
use tallyhook_store::{Moment, TrackedRepository};
use tokio::time::timeout;

use super::here::clock;
use super::{CERTIFICATES, CHECKING, Finding, silent, webhook, within};
use crate::config::Config;

/// Repositories that are looked at, the default one first.
const MOST: usize = 20;
const AT_ONCE: usize = 4;
/// A token that ends within that time is worth a word.
const SOON: TimeDelta = TimeDelta::days(7);

/// A repository that is tracked, or will be.
struct Repository {
    /// `owner/name`.
    name: String,
    last_delivery_at: Option<Moment>,
}

pub(super) async fn examine(config: &Config, tracked: &[TrackedRepository]) -> Vec<Finding> {
    let Some(credentials) = config.github_credentials.clone() else {
        let opens = if config.tasks.auto_pr {
            ", TASK_AUTO_PR makes no pull requests"
        } else {
            ""
        };
        let found = format!(
            "there is neither a token nor an App: GitHub is asked for nothing{opens}, and nothing of it is checked here"
        );
        let advice = "set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY, to have what webhooks miss";
        return vec![Finding::warning("GitHub", found, advice)];
    };
    let is_app = matches!(credentials, Credentials::App(_));
    let client = match Client::with(
        config.github_api_url.clone(),
        credentials,
        Clock::System,
        CHECKING,
    ) {
        Ok(client) => client.once(),
        Err(error) => return vec![Finding::wrong("GitHub", format!("{error:#}"), CERTIFICATES)],
    };
    let access = async {
        if is_app {
            app(&client, config.tasks.auto_pr).await
        } else {
            token(&client).await
        }
    };
    let mut findings = match timeout(CHECKING, access).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => {
            let advice =
                "set this right first: repositories and webhooks are not looked at without";
            return vec![Finding::wrong("GitHub", error.to_string(), advice)];
        }
        Err(_) => return vec![silent("GitHub")],
    };
    let mut repositories = repositories(config, tracked);
    let left_out = repositories.len().saturating_sub(MOST);
    repositories.truncate(MOST);
    let looked_at = stream::iter(&repositories).map(|repository| {
        within("repository", async {
            look(&client, repository, is_app).await
        })
    });
    findings.extend(
        looked_at
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .concat(),
    );
    if left_out > 0 {
        findings.push(Finding::ok(
            "repository",
            format!("{left_out} more are not looked at"),
        ));
    }
    findings
}

/// The default repository, and those that are tracked.
fn repositories(config: &Config, tracked: &[TrackedRepository]) -> Vec<Repository> {
    let is_default = |name: &str| {
        config
            .default_repository
            .as_ref()
            .is_some_and(|known| known.eq_ignore_ascii_case(name))
    };
    let mut repositories: Vec<_> = tracked
        .iter()
        .map(|known| Repository {
            name: known.name.clone(),
            last_delivery_at: known.last_delivery_at,
        })
        .collect();
    if let Some(name) = &config.default_repository
        && !repositories.iter().any(|known| is_default(&known.name))
    {
        repositories.push(Repository {
            name: name.clone(),
            last_delivery_at: None,
        });
    }
    repositories.sort_by_key(|known| !is_default(&known.name));
    repositories
}

async fn token(client: &Client) -> Result<Vec<Finding>, GithubError> {
    let standing = client.standing().await?;
    let mut findings = vec![scopes(standing.scopes.as_deref())];
    findings.extend(whoever(&standing));
    Ok(findings)
}

/// What a classic token may do. What one of single permissions may do shows where it is used.
fn scopes(scopes: Option<&[String]>) -> Finding {
    let Some(scopes) = scopes else {
        return Finding::ok(
            "token",
            "GitHub accepts it; it is one of single permissions, which show below",
        );
    };
    let has = |scope: &str| scopes.iter().any(|known| known == scope);
    let listed = if scopes.is_empty() {
        "no scope".to_owned()
    } else {
        format!("the scopes {}", scopes.join(", "))
    };
    let sees_hooks = [
        "repo",
        "read:repo_hook",
        "write:repo_hook",
        "admin:repo_hook",
    ]
    .into_iter()
    .any(has);
    if !has("repo") && !has("public_repo") {
        let found = format!(
            "GitHub accepts it, but it has {listed}: it sees public repositories, and changes nothing"
        );
        Finding::warning(
            "token",
            found,
            "give it the scope repo, or public_repo if all of them are public",
        )
    } else if !sees_hooks {
        let found = format!("GitHub accepts it, but it has {listed}: it cannot see webhooks");
        Finding::warning(
            "token",
            found,
            "give it the scope admin:repo_hook, for `hook create`, `recover` and this",
        )
    } else {
        Finding::ok("token", format!("GitHub accepts it; it has {listed}"))
    }
}

async fn app(client: &Client, opens: bool) -> Result<Vec<Finding>, GithubError> {
    let (app, standing) = client.app().await?;
    let mut findings = vec![pull_requests(&app, opens)];
    findings.extend(whoever(&standing));
    let installations = client.installations().await?;
    let login = |installation: &InstalledOn| {
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
            "it is installed nowhere",
            "install it where the repositories are",
        ),
        (active, []) => Finding::ok(
            "installations",
            format!("it is installed on {}", names(active)),
        ),
        (_, suspended) => Finding::warning(
            "installations",
            format!("it is suspended on {}", names(suspended)),
            "let their owner take it up again, if it is to see them",
        ),
    });
    findings.push(webhook::of_app(client, &app).await);
    Ok(findings)
}

/// Whether an App may do with pull requests what it is to do; `opens` if it is to make those of tasks.
fn pull_requests(app: &AppInfo, opens: bool) -> Finding {
    let known = format!("GitHub knows it as {}", app.name);
    match app.permissions.get("pull_requests").map(String::as_str) {
        None => Finding::wrong(
            "App",
            format!("{known}; it may not read pull requests"),
            match opens {
                true => {
                    "give it read access to issues, contents and merge queues, and write access to pull requests"
                }
                false => "give it read access to pull requests, issues, contents and merge queues",
            },
        ),
        Some("read") if opens => Finding::warning(
            "App",
            format!("{known}; it may read pull requests and not make them, as TASK_AUTO_PR says"),
            "give it write access to pull requests, and accept that where it is installed",
        ),
        Some("read") => Finding::ok(
            "App",
            format!("{known}; it may read pull requests, and not make those of tasks"),
        ),
        Some(right) => Finding::ok(
            "App",
            format!("{known}; to pull requests it has the right to {right}"),
        ),
    }
}

/// What is told of a token and of an App alike.
fn whoever(standing: &Standing) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(expires_at) = standing.expires_at {
        let found = format!(
            "it is valid until {}",
            expires_at.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
        findings.push(match expires_at - Utc::now() < SOON {
            true => Finding::warning(
                "token's end",
                found,
                "make a new one before that, and set GITHUB_TOKEN to it",
            ),
            false => Finding::ok("token's end", found),
        });
    }
    findings.push(match standing.allowance {
        None => Finding::ok("rate limit", "there is none"),
        Some((remaining, limit)) if remaining < limit / 10 => Finding::warning(
            "rate limit",
            format!("{remaining} of {limit} requests are left of this hour"),
            "wait; if it stays so, see what else uses this token",
        ),
        Some((remaining, limit)) => Finding::ok(
            "rate limit",
            format!("{remaining} of {limit} requests are left of this hour"),
        ),
    });
    findings.extend(standing.clock_ahead.map(|ahead| clock("GitHub", ahead)));
    findings
}

async fn look(client: &Client, repository: &Repository, is_app: bool) -> Vec<Finding> {
    let Repository {
        name,
        last_delivery_at,
    } = repository;
    let mut findings = vec![seen(client, name).await.of(name)];
    // An App has one webhook for all.
    if let (false, Ok(owner)) = (is_app, HookOwner::repository(name)) {
        findings.push(
            webhook::of_repository(client, &owner, *last_delivery_at)
                .await
                .of(name),
        );
    }
    findings
}

/// Whether a repository can be asked for.
async fn seen(client: &Client, name: &str) -> Finding {
    match client.repository(name).await {
        Ok(told) if !told.full_name.eq_ignore_ascii_case(name) => Finding::ok(
            "repository",
            format!("it can be read; it is called {} now", told.full_name),
        ),
        Ok(told) if told.archived => Finding::ok("repository", "it can be read; it is archived"),
        Ok(_) => Finding::ok("repository", "it can be read"),
        Err(error) => {
            let advice = "give the token or App the right to it, or track it no more: DELETE /api/repos/{owner}/{repo}";
            Finding::wrong("repository", error.to_string(), advice)
        }
    }
}
