//! Checks of webhooks: address, events, content type, last delivery.

use chrono::SecondsFormat;
use tallyhook_github_client::hooks::{DeliveryAttempt, HookOwner, WebhookConfig, WebhookInfo};
use tallyhook_github_client::token_info::AppInfo;
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::Moment;

use super::Finding;
use super::finding::CheckState;
use crate::sync::webhook::{self, ENDPOINT};

/// The events without which there are no numbers.
const REQUIRED_EVENTS: [&str; 2] = ["pull_request", "pull_request_review"];

/// The checked properties of a webhook of a repository, an organisation or an App.
struct HookView<'a> {
    config: &'a WebhookConfig,
    active: bool,
    events: &'a [String],
    /// Status and message of the answer to its last delivery, if known.
    last: Option<(i64, String)>,
}

/// Checks the webhook of a repository, or that of its organisation. `last_delivery_at` is the time
/// of the last delivery that arrived here.
pub(super) async fn of_repository(
    client: &Client,
    owner: &HookOwner,
    last_delivery_at: Option<Moment>,
) -> Finding {
    let hooks = match client.hooks(owner).await {
        Ok(hooks) => hooks,
        Err(
            error @ (GithubError::NotFound { .. }
            | GithubError::Forbidden { .. }
            | GithubError::SsoRequired { .. }),
        ) => {
            let found = format!(
                "this token has no access to it ({error}){}",
                last_delivery_text(last_delivery_at)
            );
            let advice = "give the token the scope admin:repo_hook, or the permission to read \
                          webhooks, if it is of an \
                          administrator of the repository";
            return Finding::warning("webhook", found, advice);
        }
        Err(error) => {
            let advice = "retry later, or check in its settings, under Webhooks, that it has ours";
            return Finding::wrong("webhook", error.to_string(), advice);
        }
    };
    if let Some(hook) = hooks.iter().find(|hook| is_ours(&hook.config)) {
        return of_hook(hook);
    }
    // Without access to the organisation's webhooks GitHub answers as if there were none.
    if let HookOwner::Repository(account, _) = owner
        && let Ok(of_organization) = client
            .hooks(&HookOwner::Organization(account.clone()))
            .await
        && let Some(hook) = of_organization.iter().find(|hook| is_ours(&hook.config))
    {
        return of_hook(hook);
    }
    let found = format!(
        "none of its {} webhooks posts to a URL that ends in {ENDPOINT}{}",
        hooks.len(),
        last_delivery_text(last_delivery_at)
    );
    match last_delivery_at {
        Some(_) => Finding::warning(
            "webhook",
            found,
            "none, if the organisation or an App has a webhook, or a proxy gives ours another URL",
        ),
        None => Finding::wrong(
            "webhook",
            found,
            format!("create one: `tallyhook hook create {owner} --url ...`"),
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
        let found = format!("the App's webhook does not post to a URL that ends in {ENDPOINT}");
        return Finding::wrong(
            "webhook",
            found,
            format!("set its URL to https://HOST{ENDPOINT}"),
        );
    }
    let last = match client.delivery_attempts(&HookOwner::App, None) {
        Ok(mut pages) => pages
            .next::<DeliveryAttempt>()
            .await
            .ok()
            .flatten()
            .and_then(|page| page.into_iter().next()),
        Err(_) => None,
    };
    let last = last.map(|attempt| (attempt.status_code, String::new()));
    check_hook(&HookView {
        config: &config,
        active: true,
        events: &app.events,
        last,
    })
}

fn of_hook(hook: &WebhookInfo) -> Finding {
    let last = hook
        .last_response
        .code
        .map(|code| (code, hook.last_response.message.clone().unwrap_or_default()));
    check_hook(&HookView {
        config: &hook.config,
        active: hook.active,
        events: &hook.events,
        last,
    })
}

/// Combines all problems of a webhook into one finding, with the worst state.
fn check_hook(hook: &HookView<'_>) -> Finding {
    let mut problems = configuration_problems(hook);
    problems.extend(last_delivery_problem(hook));
    let url = hook
        .config
        .url
        .as_deref()
        .filter(|url| webhook::endpoint(url).is_some_and(|normal| normal == **url))
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
    let is_wrong = problems
        .iter()
        .any(|problem| problem.state == CheckState::Wrong);
    let found: Vec<_> = problems
        .iter()
        .map(|problem| problem.found.as_str())
        .collect();
    let advice: Vec<_> = problems.iter().map(|problem| problem.advice).collect();
    let (found, advice) = (format!("{url}: {}", found.join("; ")), advice.join("; "));
    if is_wrong {
        Finding::wrong("webhook", found, advice)
    } else {
        Finding::warning("webhook", found, advice)
    }
}

/// One problem of a webhook.
struct HookProblem {
    state: CheckState,
    found: String,
    advice: &'static str,
}

fn configuration_problems(hook: &HookView<'_>) -> Vec<HookProblem> {
    let mut problems = Vec::new();
    let mut problem = |state, found: String, advice| {
        problems.push(HookProblem {
            state,
            found,
            advice,
        });
    };
    if !hook.active {
        problem(
            CheckState::Wrong,
            "it is not active".to_owned(),
            "activate it",
        );
    }
    // GitHub offers merge groups to Apps, and only sometimes to others.
    let expected = webhook::events()
        .into_iter()
        .filter(|event| *event != "merge_group");
    let missing: Vec<_> = expected
        .filter(|event| !has_event(hook.events, event))
        .collect();
    if !missing.is_empty() {
        let is_required = missing.iter().any(|event| REQUIRED_EVENTS.contains(event));
        let state = if is_required {
            CheckState::Wrong
        } else {
            CheckState::Warning
        };
        problem(
            state,
            format!("it does not send {}", missing.join(", ")),
            "add the events",
        );
    }
    if !matches!(hook.config.content_type.as_deref(), Some("json" | "form")) {
        problem(
            CheckState::Wrong,
            "its content type is neither JSON nor a form".to_owned(),
            "set it to application/json",
        );
    }
    if !hook.config.checks_certificates() {
        problem(
            CheckState::Warning,
            "it does not check our certificate".to_owned(),
            "turn SSL verification on",
        );
    }
    problems
}

fn last_delivery_problem(hook: &HookView<'_>) -> Option<HookProblem> {
    let (code, message) = hook.last.as_ref()?;
    let (answer, advice) = match code {
        200..300 => return None,
        401 => (
            "answered with 401".to_owned(),
            "set its secret to that of GITHUB_WEBHOOK_SECRET",
        ),
        code => {
            let message = match message.as_str() {
                "" => String::new(),
                message => format!(" ({message})"),
            };
            let answer = match code {
                0 => format!("not answered{message}"),
                code => format!("answered with {code}{message}"),
            };
            let advice = "make sure that it reaches this server, then fetch what failed with \
                          `tallyhook recover`";
            (answer, advice)
        }
    };
    Some(HookProblem {
        state: CheckState::Wrong,
        found: format!("its last delivery was {answer}"),
        advice,
    })
}

fn has_event(events: &[String], wanted: &str) -> bool {
    events.iter().any(|event| event == "*" || event == wanted)
}

/// Returns true if it posts to our path, at any host.
fn is_ours(config: &WebhookConfig) -> bool {
    let path = |url: &str| {
        url.split(['?', '#'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .ends_with(ENDPOINT)
    };
    config.url.as_deref().is_some_and(path)
}

fn last_delivery_text(last_delivery_at: Option<Moment>) -> String {
    last_delivery_at
        .map(|at| {
            format!(
                "; the last delivery arrived at {}",
                at.to_rfc3339_opts(SecondsFormat::Secs, true)
            )
        })
        .unwrap_or_default()
}
