//! Signing in with GitHub: the way there, the return, and the page of a person who has signed in.

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, REFERRER_POLICY, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::layout::Document;
use super::links::Links;
use super::page::{HTML, PageResult};
use super::routes::{PageRoute, is_page};
use crate::accounts::{ReturnPlace, SignInProblem};
use crate::api::{
    ApiState, KnownCaller, SentOn, begin_sign_in, finish_sign_in, form_token, is_own_path,
    public_address,
};

/// The beginning of the path of an invitation.
const INVITATION: &str = "/invitations/";

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::open("/sign-in", begin),
        PageRoute::open("/github/callback", finish),
        PageRoute::open("/welcome", welcome),
    ]
}

/// Returns the address that begins to sign in and goes on with `next`. It is a link and no form:
/// the policy of pages lets no form lead to another site.
pub(super) fn address(base: &str, next: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", next);
    format!("{base}/sign-in?{}", query.finish())
}

/// Sends a browser to GitHub, or on if a person has signed in.
async fn begin(
    request: HttpRequest,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
) -> PageResult {
    let wanted = parameter(&request, "return_to").unwrap_or_default();
    let wanted = Some(wanted).filter(|path| is_own_path(path));
    let wanted = wanted.unwrap_or_else(|| "/".to_owned());
    let secret = wanted.strip_prefix(INVITATION);
    let (place, path) = match secret {
        Some(secret) => (api.invited_place(secret), wanted.clone()),
        None if is_page(&wanted) => (ReturnPlace::Page(wanted.clone()), wanted),
        None => (ReturnPlace::Page("/".to_owned()), "/".to_owned()),
    };
    let caller = KnownCaller::known(&api, &request).await?;
    // One who is in no team may sign in again, or as another.
    if caller.is_some_and(|caller| caller.is_person() && !caller.teams.is_empty()) {
        return Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, links.path(&path)))
            .finish());
    }
    Ok(match begin_sign_in(&api, &request, &place).await {
        Ok(Some(sent)) => sent_on(&sent.address, &sent),
        Ok(None) => off(&request),
        Err(problem) => refused(&request, &links, &problem),
    })
}

/// Takes a browser back that GitHub sends.
async fn finish(
    request: HttpRequest,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
) -> HttpResponse {
    match finish_sign_in(&api, &request).await {
        Ok(Some(sent)) => sent_on(&links.path(&sent.address), &sent),
        Ok(None) => off(&request),
        Err(problem) => refused(&request, &links, &problem),
    }
}

fn parameter(request: &HttpRequest, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
    let (_, value) = pairs.find(|(known, _)| known == name)?;
    Some(value.into_owned())
}

/// Sends a browser on. Its own address has secrets in it, which are for no other site.
fn sent_on(address: &str, sent: &SentOn) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .insert_header((SET_COOKIE, sent.set_cookie.as_str()))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .finish()
}

/// Returns the page of a problem, with the next step. A person who said no is sent to the login, from
/// an address without secrets.
fn refused(request: &HttpRequest, links: &Links, problem: &SignInProblem) -> HttpResponse {
    let no_referrer = (REFERRER_POLICY, "no-referrer");
    if let SignInProblem::AccessDenied(place) = problem {
        let next = match place {
            ReturnPlace::Page(path) => path.as_str(),
            // The address of an invitation is a secret that is not stored: its link leads to it.
            ReturnPlace::Invitation(_) => "/",
        };
        let login = links.to("/login", [("problem", problem.code()), ("next", next)]);
        return HttpResponse::SeeOther()
            .insert_header((LOCATION, login))
            .insert_header(no_referrer)
            .finish();
    }
    let document = Document::of(request);
    let text = problem.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let body = html! {
        p #error .error role="alert" { (first.unwrap_or_default()) (letters.as_str()) "." }
        p .quiet { code { (problem.code()) } }
        p .actions {
            @if problem.can_start_again() {
                // The browser may have begun at another address of this server.
                a href=(public_address(request, "/sign-in")) { "Start again" }
            }
            a href=(format!("{}/login", document.base)) { "Sign in with a token" }
        }
    };
    let status = StatusCode::from_u16(problem.status());
    HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .insert_header(HTML)
        .insert_header(no_referrer)
        .body(page(&document, "Not signed in", &body))
}

fn page(document: &Document, heading: &str, body: &Markup) -> String {
    document.markup(heading, &html! {}, body).into_string()
}

fn off(request: &HttpRequest) -> HttpResponse {
    let document = Document::of(request);
    let body = html! {
        p { "On this server nobody signs in with GitHub." }
        p .actions { a href=(format!("{}/login", document.base)) { "Sign in with a token" } }
    };
    HttpResponse::Ok()
        .insert_header(HTML)
        .body(page(&document, "Sign in", &body))
}

/// Shows the person who has signed in and its teams, and how to get into one.
async fn welcome(request: HttpRequest, api: web::Data<ApiState>) -> PageResult {
    let document = Document::of(&request);
    let caller = KnownCaller::known(&api, &request).await?;
    let invitation = parameter(&request, "invitation");
    let body = html! {
        @match &caller {
            None => {
                p { "You are not signed in." }
                p .actions { a href=(format!("{}/login", document.base)) { "Sign in" } }
            }
            Some(caller) => {
                @if let Some(person) = caller.person.as_ref() {
                    p { "You are signed in as " strong { bdi { (person.shown()) } } "." }
                }
                @match invitation.as_deref() {
                    Some("other_person") => p .error role="alert" {
                        "The invitation is for another person: sign out, and sign in as the one \
                         that it is for."
                    },
                    Some("not_valid") => p .error role="alert" {
                        "The invitation is not in force: it was used before, was ended, or is older \
                         than seven days. Ask the person who sent it for a new one."
                    },
                    _ => {}
                }
                (teams(&document, caller))
                form .who method="post" action=(format!("{}/logout", document.base)) {
                    @if let Some((name, value)) = form_token(&request) {
                        input type="hidden" name=(name) value=(value);
                    }
                    button { "Sign out" }
                }
            }
        }
    };
    Ok(HttpResponse::Ok()
        .insert_header(HTML)
        .body(page(&document, "Welcome", &body)))
}

fn teams(document: &Document, caller: &KnownCaller) -> Markup {
    html! {
        @if caller.teams.is_empty() {
            p { "You are in no team here, so there is nothing to see yet." }
            ul {
                li {
                    "Ask an admin of a team for an invitation to your login at GitHub, and open its \
                     link in this browser."
                }
                li {
                    "If a team takes in the members of your organization, an owner may have to admit \
                     this server's App there first. Then sign out, and sign in again."
                }
            }
        } @else {
            p {
                "You are in "
                @for (place, team) in caller.teams.iter().enumerate() {
                    @if place > 0 { ", " }
                    strong { (team.team_name) } " as " (team.role.as_str())
                }
                "."
            }
            p .actions { a href=(format!("{}/", document.base)) { "Overview" } }
        }
    }
}
