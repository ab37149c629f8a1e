//! Settings: who may what, and how the server is connected.

use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::words;
use crate::api::{
    AccessRole, ApiError, CalendarItem, CreateTokenBody, DEFAULT_DAYS, GithubAccess, Page,
    SessionItem, SettingsAnswer, TokenCreated, TokenItem,
};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const IN_FORCE: &str = "a setting in force";

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/settings", AccessRole::Viewer, settings),
        PageRoute::form("/settings/tokens", AccessRole::Admin, create_token),
        PageRoute::page(
            "/settings/tokens/{name}/revoke",
            AccessRole::Admin,
            confirm_revoke,
        ),
        PageRoute::form("/settings/tokens/{name}/revoke", AccessRole::Admin, revoke),
        PageRoute::form(
            "/settings/sessions/{id}/end",
            AccessRole::Viewer,
            end_session,
        ),
        PageRoute::form(
            "/settings/sessions/end",
            AccessRole::Viewer,
            end_all_sessions,
        ),
    ]
}

async fn settings(page: PageRequest) -> PageResult {
    let is_admin = page.may(AccessRole::Admin);
    let sessions = page.api.sessions(&page.caller.known).await;
    let body = html! {
        p {
            "You are signed in with the role " strong { (page.caller.role.as_str()) }
            " in the team " strong { (page.caller.team_name) }
            @if let Some(login) = &page.caller.login { ", as " bdi { (login) } }
            "."
        }
        p .actions {
            @if is_admin { a href=(page.links.path("/members")) { "Members and invitations" } }
            a href=(page.links.path("/teams")) { "Teams" }
        }
        section #sessions { h2 { "Your sessions" } (block(sessions, |list| session_table(&page, &list))) }
        @if is_admin {
            section #tokens {
                h2 { "Tokens" }
                (block(page.api.tokens(&page.caller).await, |list| token_table(&page, &list)))
                (token_form(&page))
            }
            (in_force(&page.api.settings(&page.caller.team_name)))
        } @else {
            p .quiet { "Tokens and the settings in force are shown to admins." }
        }
    };
    Ok(page.show(
        Section::Settings,
        "Who may what, and how are we connected",
        &body,
    ))
}

fn session_table(page: &PageRequest, list: &Page<SessionItem>) -> Markup {
    html! {
        @if list.items.is_empty() {
            p { "None: this request has a token of its own." }
        } @else {
            table {
                caption .quiet { "Browsers that are signed in as you" }
                thead {
                    tr {
                        th scope="col" { "Browser" } th scope="col" { "Since" }
                        th scope="col" .hide { "Last used" } th scope="col" .hide { "Ends" } th scope="col" { "Do" }
                    }
                }
                tbody {
                    @for session in &list.items {
                        tr id=(format!("session-{}", session.id)) {
                            th scope="row" {
                                bdi { (one_line(session.agent.as_deref().unwrap_or("unknown"), 120)) }
                                @if session.is_current { " " span .chip { "this one" } }
                            }
                            td { (words::stated(Some(&session.created_at))) }
                            td .hide { (words::stated(Some(&session.last_used_at))) }
                            td .hide { (words::stated(Some(&session.expires_at))) }
                            td {
                                form method="post" action=(page.links.path(&format!("/settings/sessions/{}/end", session.id))) {
                                    (page.csrf()) button { "End" }
                                }
                            }
                        }
                    }
                }
            }
            form .actions method="post" action=(page.links.path("/settings/sessions/end")) {
                (page.csrf()) button { "Sign out everywhere" }
            }
        }
    }
}

async fn end_all_sessions(page: PageRequest) -> PageResult {
    page.api.end_all_sessions(&page.caller.known).await?;
    Ok(page.redirect(&page.links.path("/login")))
}

async fn end_session(page: PageRequest) -> PageResult {
    let id = page
        .part("id")
        .parse()
        .map_err(|_| ApiError::NotFound("session"))?;
    page.api.end_session(&page.caller.known, id).await?;
    Ok(page.redirect(&page.links.path("/settings")))
}

fn token_table(page: &PageRequest, list: &Page<TokenItem>) -> Markup {
    html! {
        @if list.items.is_empty() {
            p { "There is none yet beside the one of the first start." }
        } @else {
            table {
                caption .quiet { "Tokens of the team, the oldest first" }
                thead {
                    tr {
                        th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" .hide { "Login" }
                        th scope="col" .hide { "By" }
                        th scope="col" .hide { "Made" } th scope="col" { "Last used" } th scope="col" { "Ends" }
                        th scope="col" { "Do" }
                    }
                }
                tbody { @for token in &list.items { (token_row(page, token)) } }
            }
        }
    }
}

fn token_row(page: &PageRequest, token: &TokenItem) -> Markup {
    html! {
        tr id=(format!("token-{}", token.name)) {
            th scope="row" { bdi { (token.name) } }
            td { (token.role.as_str()) }
            td .hide { bdi { (token.login.as_deref().unwrap_or(words::UNKNOWN)) } }
            td .hide { bdi { (token.created_by.as_ref().map_or(words::UNKNOWN, |person| person.shown())) } }
            td .hide { (words::stated(Some(&token.created_at))) }
            td { @match token.last_used_at.as_deref() { Some(at) => (words::stated(Some(at))), None => "never" } }
            td { @match token.expires_at.as_deref() { Some(at) => (words::stated(Some(at))), None => "no end" } }
            td {
                @match token.revoked_at.as_deref() {
                    Some(at) => { "revoked " (words::stated(Some(at))) },
                    None => { a href=(revoke_address(page, &token.name)) { "Revoke" } },
                }
            }
        }
    }
}

fn revoke_address(page: &PageRequest, name: &str) -> String {
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // In a path a plus sign is one.
    page.links.path(&format!(
        "/settings/tokens/{}/revoke",
        name.replace('+', "%20")
    ))
}

fn token_form(page: &PageRequest) -> Markup {
    let roles = [AccessRole::Viewer, AccessRole::Member, AccessRole::Admin];
    html! {
        h3 { "Create a token" }
        form .filters method="post" action=(page.links.path("/settings/tokens")) {
            (page.csrf())
            label { "Name" input name="name" required maxlength="100"; }
            label {
                "Role"
                select name="role" { @for role in roles { option value=(role.as_str()) { (role.as_str()) } } }
            }
            label { "Login on GitHub (for \"me\")" input name="login"; }
            label { "Days until it ends (empty: no end)" input type="number" name="expires_days" min="1" max="3650" value=(DEFAULT_DAYS); }
            button { "Create" }
        }
    }
}

async fn create_token(page: PageRequest) -> PageResult {
    let text = page.field("role").unwrap_or_default();
    let roles = [AccessRole::Viewer, AccessRole::Member, AccessRole::Admin];
    let role = roles.into_iter().find(|role| role.as_str() == text);
    let role = role.ok_or_else(|| {
        ApiError::BadRequest("`role` is missing: expected viewer, member or admin".to_owned())
    })?;
    let days = page.field("expires_days").map(str::parse).transpose();
    let days = days.map_err(|_| {
        ApiError::BadRequest("`expires_days` must be a whole number, or empty".to_owned())
    })?;
    let body = CreateTokenBody {
        name: page.field("name").unwrap_or_default().to_owned(),
        role,
        login: page.field("login").map(str::to_owned),
        expires_days: Some(days),
    };
    let created = page.api.create_token(&page.caller, body).await?;
    Ok(page.show(
        Section::Settings,
        "A new token",
        &new_token(&page, &created),
    ))
}

fn new_token(page: &PageRequest, created: &TokenCreated) -> Markup {
    html! {
        p { "Copy it now: it is shown this once." }
        p .actions {
            code #new-token { (created.token) }
            button type="button" data-copy="new-token" { "Copy" }
        }
        p { bdi { (created.name) } ", with the role " (created.role.as_str()) "." }
        p { a href=(page.links.path("/settings")) { "Settings" } }
    }
}

/// Returns the name of the path, in which the escapes of a few signs are left by the router.
fn token_name(page: &PageRequest) -> String {
    let part = format!("name={}", page.part("name"));
    let mut pairs = form_urlencoded::parse(part.as_bytes());
    pairs
        .next()
        .map(|(_, name)| name.into_owned())
        .unwrap_or_default()
}

async fn confirm_revoke(page: PageRequest) -> PageResult {
    let name = token_name(&page);
    let tokens = page.api.tokens(&page.caller).await?;
    let token = tokens
        .items
        .iter()
        .find(|token| token.name == name && token.revoked_at.is_none());
    let token = token.ok_or(ApiError::NotFound("token"))?;
    let body = html! {
        p {
            "Every program and browser that uses " bdi { (token.name) } " is refused from then on, and its \
             sessions end. It cannot be undone."
        }
        p {
            "Last used: "
            @match token.last_used_at.as_deref() { Some(at) => (words::stated(Some(at))), None => "never" }
            "."
        }
        div .actions {
            form method="post" action=(revoke_address(&page, &name)) { (page.csrf()) button .danger { "Revoke it" } }
            a href=(page.links.path("/settings")) { "Keep it" }
        }
    };
    Ok(page.show(Section::Settings, "Revoke a token", &body))
}

async fn revoke(page: PageRequest) -> PageResult {
    page.api
        .revoke_token(&page.caller, &token_name(&page))
        .await?;
    Ok(page.redirect(&page.links.path("/settings")))
}

/// Returns the settings in force, without secrets.
fn in_force(settings: &SettingsAnswer) -> Markup {
    let yes = |is_on| if is_on { "yes" } else { "no" };
    html! {
        section #github {
            h2 { "GitHub and webhooks" }
            dl .facts {
                dt { "Access" }
                dd {
                    @match settings.github.access {
                        GithubAccess::None => "none: no request is sent. Set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY.",
                        GithubAccess::Token => "a token",
                        GithubAccess::App => "a GitHub App",
                    }
                }
                dt { "API" } dd { code { (settings.github.api) } }
                dt { "Default repository" }
                dd { bdi { (settings.github.default_repository.as_deref().unwrap_or(words::UNKNOWN)) } }
                dt { "Webhooks are posted to" } dd { code { (settings.webhooks.path) } }
                dt { "Valid secrets" } dd data-n=(IN_FORCE) { (settings.webhooks.secrets) }
                dt { "Bodies are kept" } dd data-n=(IN_FORCE) { (words::counted(settings.webhooks.retention_days.into(), "day")) }
            }
        }
        section #people {
            h2 { "People and bots" }
            dl .facts {
                dt { "Show people in totals" } dd { (yes(settings.show_people)) " (" code { "SHOW_PEOPLE" } ")" }
                dt { "Bots beside those of GitHub" }
                dd { @if settings.bots.is_empty() { "none" } @else { bdi { (settings.bots.join(", ")) } } }
            }
        }
        section #calendars { h2 { "Working hours" } (calendars(&settings.calendars)) }
        section #tasks {
            h2 { "Tasks" }
            dl .facts {
                dt { code { "TASK_AUTO_PR" } }
                dd {
                    @if settings.tasks.auto_pr {
                        "on: the pull request of a task in IMPLEMENTING is opened when its branch is pushed."
                    } @else {
                        "off. On, it would open the pull request of a task in IMPLEMENTING when its branch is pushed."
                    }
                }
                dt { "Working trees" }
                dd {
                    @match &settings.tasks.worktree_root {
                        Some(root) => { "removed after the merge below " code { (root) } },
                        None => { "none is removed (" code { "WORKTREE_ROOT" } ")" },
                    }
                }
            }
        }
        (sources(settings))
    }
}

fn calendars(calendars: &[CalendarItem]) -> Markup {
    html! {
        @if calendars.is_empty() {
            p { "There is no calendar: hours are those of the clock. The configuration file defines them." }
        }
        @for calendar in calendars {
            h3 { bdi { (calendar.name) } @if calendar.is_default { " " span .chip { "default" } } }
            dl .facts data-n=(IN_FORCE) {
                dt { "Time zone" } dd { (calendar.zone) }
                @for (day, hours) in DAYS.iter().zip(&calendar.week) {
                    dt { (day) } dd { @if hours.is_empty() { "off" } @else { (hours) } }
                }
                dt { "Dates with other hours" } dd { (calendar.dates) }
                @for (words, names) in [("Repositories", &calendar.repos), ("Teams", &calendar.teams), ("People", &calendar.people)] {
                    @if !names.is_empty() { dt { (words) } dd { bdi { (names.join(", ")) } } }
                }
            }
        }
    }
}

/// Returns the settings that are not at their defaults by name, with their sources.
fn sources(settings: &SettingsAnswer) -> Markup {
    html! {
        section #sources {
            h2 { "What is set, and where" }
            @if settings.set.is_empty() {
                p { "Every setting is at its default." }
            } @else {
                table .plain {
                    caption .quiet { "Settings that are set, without their values" }
                    thead { tr { th scope="col" { "Setting" } th scope="col" { "Set by" } } }
                    tbody {
                        @for setting in &settings.set {
                            tr { th scope="row" { code { (setting.name) } } td { bdi { (setting.from) } } }
                        }
                    }
                }
            }
            @for warning in &settings.warnings { p .banner { bdi { (one_line(warning, 300)) } } }
            p .quiet {
                "Tallyhook " code { (settings.version) } ", licensed under " (settings.license) ". "
                "They are read at the start of a process; " code { "tallyhook config show" } " has their values."
            }
        }
    }
}
