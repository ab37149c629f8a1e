//! Whether a webhook tells us what we want to know.

use chrono::SecondsFormat;
use tallyhook_github_client::hooks::{Attempt, Hook, HookConfig, HookOwner};
use tallyhook_github_client::standing::AppInfo;
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::Moment;

use super::Finding;
use super::finding::State;
use crate::sync::webhook::{self, ENDPOINT};

/// Without these there are no numbers.
const NEEDED: [&str; 2] = ["pull_request", "pull_request_review"];

/// A webhook as far as it matters here, be it an App's or another.
struct Seen<'a> {
    config: &'a HookConfig,
    active: bool,
    events: &'a [String],
    /// What its last delivery was answered with, where that is known.
    last: Option<(i64, String)>,
}

/// Of the repository that `owner` is, or of its organisation. `last_delivery_at` is when one came here.
pub(super) async fn of_repository(
    client: &Client,
    owner: &HookOwner,
    last_delivery_at: Option<Moment>,
) -> Finding {
    let hooks = match client.hooks(owner).await {
        Ok(hooks) => hooks,
        Err(error @ (GithubError::NotFound { .. } | GithubError::Forbidden { .. })) => {
            let found = format!(
                "this token may not see it ({error}){}",
                came(last_delivery_at)
            );
            let advice = "give the token the scope admin:repo_hook, or the permission to read webhooks, if it is of an \
                          administrator of the repository";
            return Finding::warning("webhook", found, advice);
        }
        Err(error) => {
            let advice =
                "look again later, or see in its settings, under Webhooks, whether it has ours";
            return Finding::wrong("webhook", error.to_string(), advice);
        }
    };
    if let Some(hook) = hooks.iter().find(|hook| is_ours(&hook.config)) {
        return of_hook(hook);
    }
    // Whoever may not see those of the organisation is not told whether there are any.
    if let HookOwner::Repository(account, _) = owner
        && let Ok(of_organization) = client
            .hooks(&HookOwner::Organization(account.clone()))
            .await
        && let Some(hook) = of_organization.iter().find(|hook| is_ours(&hook.config))
    {
        return of_hook(hook);
    }
    let found = format!(
        "none of its {} webhooks posts to an address that ends in {ENDPOINT}{}",
        hooks.len(),
        came(last_delivery_at)
    );
    match last_delivery_at {
        Some(_) => Finding::warning(
            "webhook",
            found,
            "nothing, if the organisation or an App has one, or a proxy gives ours another address",
        ),
        None => Finding::wrong(
            "webhook",
            found,
            format!("make one: `tallyhook hook create {owner} --url ...`"),
        ),
    }
}

pub(super) async fn of_app(client: &Client, app: &AppInfo) -> Finding {
    let config = match client.app_hook().await {
        Ok(config) => config,
        Err(error) => {
            return Finding::wrong(
                "webhook",
                error.to_string(),
                "set the App's webhook URL and secret",
            );
        }
    };
    if !is_ours(&config) {
        let found = format!("that of the App posts to no address that ends in {ENDPOINT}");
        return Finding::wrong(
            "webhook",
            found,
            format!("set its URL to https://HOST{ENDPOINT}"),
        );
    }
    let last = match client.attempts(&HookOwner::App, None) {
        Ok(mut pages) => pages
            .next::<Attempt>()
            .await
            .ok()
            .flatten()
            .and_then(|page| page.into_iter().next()),
        Err(_) => None,
    };
    let last = last.map(|attempt| (attempt.status_code, String::new()));
    judge(&Seen {
        config: &config,
        active: true,
        events: &app.events,
        last,
    })
}

fn of_hook(hook: &Hook) -> Finding {
    let last = hook
        .last_response
        .code
        .map(|code| (code, hook.last_response.message.clone().unwrap_or_default()));
    judge(&Seen {
        config: &hook.config,
        active: hook.active,
        events: &hook.events,
        last,
    })
}

/// One finding of all that is wrong with it, as bad as the worst.
fn judge(hook: &Seen<'_>) -> Finding {
    let mut problems: Vec<(State, String, &str)> = Vec::new();
    let mut problem = |state, found: String, advice| problems.push((state, found, advice));
    if !hook.active {
        problem(State::Wrong, "it is not active".to_owned(), "tick Active");
    }
    // GitHub offers merge groups to Apps, and to others sometimes.
    let wanted = webhook::events()
        .into_iter()
        .filter(|event| *event != "merge_group");
    let missing: Vec<_> = wanted.filter(|event| !tells(hook.events, event)).collect();
    if !missing.is_empty() {
        let is_needed = missing.iter().any(|event| NEEDED.contains(event));
        let state = if is_needed {
            State::Wrong
        } else {
            State::Warning
        };
        problem(
            state,
            format!("it does not tell of {}", missing.join(", ")),
            "add the events",
        );
    }
    if !matches!(hook.config.content_type.as_deref(), Some("json" | "form")) {
        problem(
            State::Wrong,
            "its content type is neither JSON nor a form".to_owned(),
            "set it to application/json",
        );
    }
    if !hook.config.checks_certificates() {
        problem(
            State::Warning,
            "it does not check our certificate".to_owned(),
            "turn SSL verification on",
        );
    }
    match &hook.last {
        Some((code, _)) if (200..300).contains(code) => {}
        Some((401, _)) => problem(
            State::Wrong,
            "its last delivery was answered with 401".to_owned(),
            "give it the secret of GITHUB_WEBHOOK_SECRET",
        ),
        Some((code, message)) => {
            let message = if message.is_empty() {
                String::new()
            } else {
                format!(" ({message})")
            };
            let answer = if *code == 0 {
                "not answered".to_owned()
            } else {
                format!("answered with {code}")
            };
            let advice =
                "see that it reaches this server, then `tallyhook recover` fetches what failed";
            problem(
                State::Wrong,
                format!("its last delivery was {answer}{message}"),
                advice,
            );
        }
        None => {}
    }
    let url = hook
        .config
        .url
        .as_deref()
        .filter(|url| webhook::is_endpoint(url))
        .unwrap_or(ENDPOINT);
    if problems.is_empty() {
        let last = hook
            .last
            .as_ref()
            .map_or("nothing was delivered yet".to_owned(), |(code, _)| {
                format!("the last delivery was answered with {code}")
            });
        return Finding::ok("webhook", format!("it posts to {url}; {last}"));
    }
    let worst = problems.iter().any(|(state, ..)| *state == State::Wrong);
    let found: Vec<_> = problems
        .iter()
        .map(|(_, found, _)| found.as_str())
        .collect();
    let advice: Vec<_> = problems.iter().map(|(.., advice)| *advice).collect();
    let (found, advice) = (format!("{url}: {}", found.join("; ")), advice.join("; "));
    if worst {
        Finding::wrong("webhook", found, advice)
    } else {
        Finding::warning("webhook", found, advice)
    }
}

fn tells(events: &[String], wanted: &str) -> bool {
    events.iter().any(|event| event == "*" || event == wanted)
}

/// Whether it posts here, whatever host stands before it.
fn is_ours(config: &HookConfig) -> bool {
    let path = |url: &str| {
        url.split(['?', '#'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .ends_with(ENDPOINT)
    };
    config.url.as_deref().is_some_and(path)
}

fn came(last_delivery_at: Option<Moment>) -> String {
    last_delivery_at
        .map(|at| {
            format!(
                "; the last delivery came at {}",
                at.to_rfc3339_opts(SecondsFormat::Secs, true)
            )
        })
        .unwrap_or_default()
}
