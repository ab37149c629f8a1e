//! The frame of every page: head, navigation, heading, footer; and the headers of its response.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::middleware::DefaultHeaders;
use maud::{DOCTYPE, Markup, html};
use tokio::time::timeout;

use super::page::PageRequest;
use super::{assets, words};
use crate::api::{AccessRole, ApiError};

/// Nothing from elsewhere runs or loads, and no text becomes markup in the browser.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The time after which a part of a page is left out.
const MAX_READ: Duration = Duration::from_secs(5);

/// The parts of the dashboard, as its navigation names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    PullRequests,
    Flow,
    Load,
    Repositories,
    Tasks,
    Channels,
    Deliveries,
    DeadLetters,
    Health,
    Settings,
    /// A page that no entry of the navigation leads to.
    Other,
}

/// The entries of the navigation in their order: path, words, the role that they need.
const NAVIGATION: [(Section, &str, &str, AccessRole); 11] = [
    (Section::Overview, "/", "Overview", AccessRole::Viewer),
    (
        Section::PullRequests,
        "/prs",
        "Pull requests",
        AccessRole::Viewer,
    ),
    (Section::Flow, "/flow", "Flow", AccessRole::Viewer),
    (Section::Load, "/load", "Load", AccessRole::Viewer),
    (
        Section::Repositories,
        "/repos",
        "Repositories",
        AccessRole::Viewer,
    ),
    (Section::Tasks, "/tasks", "Tasks", AccessRole::Viewer),
    (
        Section::Channels,
        "/channels",
        "Channels",
        AccessRole::Admin,
    ),
    (
        Section::Deliveries,
        "/deliveries",
        "Deliveries",
        AccessRole::Operator,
    ),
    (
        Section::DeadLetters,
        "/dead-letters",
        "Dead letters",
        AccessRole::Operator,
    ),
    (Section::Health, "/health", "Health", AccessRole::Operator),
    (
        Section::Settings,
        "/settings",
        "Settings",
        AccessRole::Viewer,
    ),
];

/// Middleware with the headers of pages.
pub(super) fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("Content-Security-Policy", POLICY))
        .add(("Cross-Origin-Opener-Policy", "same-origin"))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
        .add(("Referrer-Policy", "same-origin"))
        .add(("X-Robots-Tag", "noindex"))
}

/// Returns the theme of a browser's cookie; any other value is none.
pub(super) fn theme(request: &HttpRequest) -> Option<&'static str> {
    let cookies = request.headers().get("cookie")?.to_str().ok()?;
    let mut pairs = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    match pairs.find(|(name, _)| *name == "theme")?.1 {
        "dark" => Some("dark"),
        "light" => Some("light"),
        _ => None,
    }
}

/// Returns the whole page of a caller.
pub(super) fn page(page: &PageRequest, section: Section, question: &str, body: &Markup) -> Markup {
    let links = &page.links;
    let entries = NAVIGATION.iter().filter(|(_, _, _, role)| page.may(*role));
    let header = html! {
        nav aria-label="Pages" {
            @for (entry, path, words, _) in entries {
                a href=(links.path(path)) aria-current=[(*entry == section).then_some("page")] { (words) }
            }
        }
        p #live role="status" { "as of " (words::time(page.now)) }
        form method="post" action=(links.path("/logout")) {
            (page.csrf())
            span { (page.caller.login.as_deref().unwrap_or(page.caller.role.as_str())) }
            button { "Sign out" }
        }
    };
    frame(page.theme(), &links.path(""), question, &header, body)
}

/// Returns the page of a request that failed. Its caller may be anyone.
pub(super) fn failure(status: StatusCode, sentence: &str) -> Markup {
    let reason = status.canonical_reason().unwrap_or("Failed");
    let body = html! {
        p { (sentence) }
        p { a href="/" { "Overview" } }
    };
    frame(None, "", reason, &html! {}, &body)
}

/// Returns a part of a page, or its error in its place: the rest of the page still holds.
pub(super) fn block<T>(read: Result<T, ApiError>, show: impl FnOnce(T) -> Markup) -> Markup {
    match read {
        Ok(value) => show(value),
        Err(error) => {
            error.log();
            html! {
                div .error role="alert" {
                    p { "This part cannot be shown: " (error) "." }
                    p { "The rest of the page holds. " a href="" { "Load it again" } }
                }
            }
        }
    }
}

/// Waits for a read that may take long, but not longer than a person would.
///
/// # Errors
/// Those of the read, or [`ApiError::Busy`].
pub(super) async fn in_time<T>(
    read: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let slow = || ApiError::Busy("it takes longer than 5 seconds; choose a shorter period");
    let read = timeout(MAX_READ, read).await;
    read.unwrap_or_else(|_| Err(slow()))
}

/// Returns a document with a header, a heading and a body.
pub(super) fn frame(
    theme: Option<&str>,
    base: &str,
    question: &str,
    header: &Markup,
    body: &Markup,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (question) " – Tallyhook" }
                link rel="icon" href=(format!("{base}{}", assets::icon()));
                link rel="stylesheet" href=(format!("{base}{}", assets::style()));
                script src=(format!("{base}{}", assets::script())) defer {}
            }
            body data-base=(base) {
                a .skip href="#main" { "To the content" }
                header { a .brand href=(format!("{base}/")) { "Tallyhook" } (header) }
                main #main tabindex="-1" {
                    h1 { (question) }
                    (body)
                }
            }
        }
    }
}
