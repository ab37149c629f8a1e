//! The frame of every page: head, navigation, heading, footer; and the headers of its response.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, web};
use maud::{DOCTYPE, Markup, html};
use tallyhook_core::text::one_line;
use tokio::time::timeout;

use super::links::Links;
use super::page::{PageRequest, cookie};
use super::{assets, words};
use crate::api::{AccessRole, ApiError};

/// Nothing from elsewhere runs or loads, and no text becomes markup in the browser.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Characters of an unknown parameter that a page repeats.
const MAX_NAME: usize = 40;
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
    /// For a screen on a wall: without a navigation.
    Wall,
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
    known_theme(&cookie(request, "theme")?)
}

fn known_theme(name: &str) -> Option<&'static str> {
    match name {
        "dark" => Some("dark"),
        "light" => Some("light"),
        _ => None,
    }
}

/// Returns the whole page of a caller.
pub(super) fn page(page: &PageRequest, section: Section, question: &str, body: &Markup) -> Markup {
    let is_wall = section == Section::Wall;
    let header = html! {
        @if !is_wall { (navigation(page, section)) }
        p #live role="status" data-at=(page.now) { "as of " (words::clock(page.now)) }
        @if !is_wall { (account(page)) }
    };
    // A screen on a wall has no hand to choose with.
    let of_address = match section {
        Section::Wall => page.parameter("theme").and_then(known_theme),
        _ => None,
    };
    let unknown = page.unknown_parameters();
    let body = html! {
        @if !unknown.is_empty() {
            div .banner {
                p {
                    "This page has no parameter "
                    @for name in &unknown { code { bdi { (one_line(name, MAX_NAME)) } } " " }
                    "and shows what it would show without."
                }
            }
        }
        (body)
    };
    let document = Document {
        theme: of_address.or_else(|| page.theme()),
        base: page.links.path(""),
        takes_keys: page.takes_keys(),
        is_wall,
        choices: (!is_wall).then(|| choices(page)),
    };
    document.markup(question, &header, &body)
}

/// Returns the links to the pages that the caller may see.
fn navigation(page: &PageRequest, section: Section) -> Markup {
    let entries = NAVIGATION.iter().filter(|(_, _, _, role)| page.may(*role));
    let dead = page.dead_letters;
    html! {
        nav aria-label="Pages" {
            @for (entry, path, words, _) in entries {
                @let address = page.links.path(path);
                a href=(address) aria-current=[(*entry == section).then_some("page")] { (words) }
                @if *entry == Section::DeadLetters {
                    span #dead data-follow {
                        @if dead > 0 {
                            a .warn href=(address) aria-label=(words::counted(dead, "dead letter"))
                                data-count { (words::grouped(dead)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the part of the header about the caller: its team, where there are several, and its
/// name.
fn account(page: &PageRequest) -> Markup {
    html! {
        @if page.teams.len() > 1 {
            form .who method="post" action=(page.links.path("/teams/choose")) {
                (page.csrf())
                input type="hidden" name="next" value="/";
                select name="team" aria-label="Team" data-submit {
                    @for team in &page.teams {
                        option value=(team) selected[*team == page.caller.team_name] { (team) }
                    }
                }
                button { "Switch" }
            }
        }
        form .who method="post" action=(page.links.path("/logout")) {
            (page.csrf())
            span { bdi { (page.caller.login.as_deref().unwrap_or(page.caller.role.as_str())) } }
            button { "Sign out" }
        }
    }
}

/// Returns the choices of a browser: its keys, its theme.
fn choices(page: &PageRequest) -> Markup {
    let theme = page.theme().unwrap_or("auto");
    let themes = [
        ("auto", "as the system"),
        ("light", "light"),
        ("dark", "dark"),
    ];
    html! {
        div .actions {
            a href=(page.links.path("/keys")) { "Keys" }
            form method="post" action=(page.links.path("/theme")) {
                (page.csrf())
                input type="hidden" name="next" value=(page.address());
                select name="theme" aria-label="Theme" data-submit {
                    @for (value, words) in themes {
                        option value=(value) selected[value == theme] { (words) }
                    }
                }
                button { "Set" }
            }
        }
    }
}

/// Returns the page of a request that failed. Its caller may be anyone.
pub(super) fn failure(request: &HttpRequest, status: StatusCode, sentence: &str) -> Markup {
    let document = Document::of(request);
    let reason = status.canonical_reason().unwrap_or("Failed");
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let body = html! {
        p { (first.unwrap_or_default()) (letters.as_str()) "." }
        p .actions {
            a href=(format!("{}/", document.base)) { "Overview" }
            a href=(format!("{}/login", document.base)) { "Sign in" }
        }
    };
    document.markup(reason, &html! {}, &body)
}

/// Returns a part of a page, or its error in its place: the rest of the page still holds.
pub(super) fn block<T>(read: Result<T, ApiError>, show: impl FnOnce(T) -> Markup) -> Markup {
    match read {
        Ok(value) => show(value),
        Err(error) => {
            error.log();
            html! {
                div .error role="alert" {
                    p { "This part cannot be shown: " bdi { (error) } "." }
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
    within(MAX_READ, read).await
}

async fn within<T>(
    limit: Duration,
    read: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let slow = || ApiError::Busy("it takes longer than 5 seconds; choose a shorter period");
    let read = timeout(limit, read).await;
    read.unwrap_or_else(|_| Err(slow()))
}

/// The root of a page, without its content.
pub(super) struct Document {
    theme: Option<&'static str>,
    /// The path of the public address.
    pub(super) base: String,
    takes_keys: bool,
    is_wall: bool,
    /// For the footer.
    choices: Option<Markup>,
}

impl Document {
    /// Returns the document for a browser that may not have signed in.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let links = request.app_data::<web::Data<Links>>();
        Self {
            theme: theme(request),
            base: links.map_or_else(String::new, |links| links.path("")),
            takes_keys: false,
            is_wall: false,
            choices: None,
        }
    }

    /// Returns it with a header, a heading and a body.
    pub(super) fn markup(&self, question: &str, header: &Markup, body: &Markup) -> Markup {
        let base = &self.base;
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (question) " – Tallyhook" }
                    link rel="icon" href=(format!("{base}{}", assets::icon()));
                    // A table that is painted before its last row moves when its columns are known.
                    link rel="expect" href="#end" blocking="render";
                    link rel="stylesheet" href=(format!("{base}{}", assets::style()));
                    script src=(format!("{base}{}", assets::script())) defer {}
                }
                body data-base=(base) data-keys=[self.takes_keys.then_some("on")]
                    class=[self.is_wall.then_some("wall")] {
                    a .skip href="#main" { "To the content" }
                    header { a .brand href=(format!("{base}/")) { "Tallyhook" } (header) }
                    main #main tabindex="-1" {
                        h1 { (question) }
                        (body)
                    }
                    footer #end .quiet {
                        p {
                            "Times are in UTC. "
                            @if self.takes_keys { "Press " kbd { "?" } " for the keys. " }
                        }
                        @if let Some(choices) = &self.choices { (choices) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn part_that_fails_or_takes_long_says_so_in_its_place() {
        let show = |number: u8| html! { b { (number) } };
        let shown = block(in_time(ready(Ok(7))).await, show).into_string();
        assert_eq!(shown, "<b>7</b>");
        let slow = block(within(Duration::ZERO, pending()).await, show).into_string();
        assert!(slow.contains("role=\"alert\""), "{slow}");
        assert!(slow.contains("longer than 5 seconds"), "{slow}");
        let failed = block(Err(ApiError::NotFound("<b>")), show).into_string();
        assert!(
            failed.contains("<bdi>there is no such &lt;b&gt;</bdi>."),
            "{failed}"
        );
    }
}
