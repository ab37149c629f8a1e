//! The page of an invitation. Only its button uses it up.

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use maud::{Markup, html};

use super::layout::{self, Document};
use super::links::Links;
use super::page::{HTML, PageResult, with_page};
use super::routes::PageRoute;
use super::sign_in::address as sign_in_address;
use super::words;
use crate::api::{ApiError, ApiState, InvitationOffer, KnownCaller, accept_invitation, form_token};

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::open("/invitations/{secret}", offer),
        PageRoute::open_form("/invitations/{secret}", accept),
    ]
}

/// Shows a button: programs that look at links before a person does follow a GET.
async fn offer(
    request: HttpRequest,
    secret: web::Path<String>,
    api: web::Data<ApiState>,
) -> PageResult {
    let offer = api.invitation_offer(&secret).await?;
    let caller = KnownCaller::known(&api, &request).await?;
    let person = caller.as_ref().and_then(|caller| caller.person.as_ref());
    let page = match (offer, person) {
        (None, _) => over(&request),
        (Some(offer), _) if offer.signs_in => button(&request, &offer, None),
        (Some(offer), Some(person)) => button(&request, &offer, Some(person.shown())),
        (Some(offer), None) => sign_in_first(&request, &offer),
    };
    Ok(HttpResponse::Ok()
        .insert_header(HTML)
        .body(page.into_string()))
}

fn invited(offer: &InvitationOffer) -> Markup {
    let person = offer.person.as_ref().map(|person| person.shown());
    let person = person.or(offer.github_login.as_deref());
    html! {
        p {
            @match &offer.team {
                Some((team, role)) => {
                    "You are invited to the team " strong { (team) } " as " (role.as_str())
                },
                None => "This link signs you in once",
            }
            @if let Some(person) = person { ", as " bdi { (person) } }
            "."
        }
        p .quiet { "The link can be used once, until " (words::stated(Some(&offer.expires_at.to_rfc3339()))) "." }
    }
}

fn button(request: &HttpRequest, offer: &InvitationOffer, person: Option<&str>) -> Markup {
    let document = Document::of(request);
    let words = match offer.team {
        Some(_) => "Join the team",
        None => "Sign in",
    };
    let body = html! {
        (invited(offer))
        form .login method="post" action=(format!("{}{}", document.base, request.path())) {
            @if let Some((name, value)) = form_token(request) {
                input type="hidden" name=(name) value=(value);
            }
            @if let Some(person) = person { p { "You are signed in as " bdi { (person) } "." } }
            button autofocus { (words) }
        }
    };
    document.markup("Invitation", &html! {}, &body)
}

fn over(request: &HttpRequest) -> Markup {
    let document = Document::of(request);
    let body = html! {
        p { "This link is not in force: it was used before, was ended, or is older than seven days." }
        p { "Ask the person who sent it for a new one." }
    };
    document.markup("Invitation", &html! {}, &body)
}

fn sign_in_first(request: &HttpRequest, offer: &InvitationOffer) -> Markup {
    let document = Document::of(request);
    let api = request.app_data::<web::Data<ApiState>>();
    let body = html! {
        (invited(offer))
        @if api.is_some_and(|api| api.offers_github()) {
            p { "Sign in as the person who is invited: that uses the link." }
            p .actions {
                a href=(sign_in_address(&document.base, request.path())) { "Sign in with GitHub and join" }
            }
        } @else {
            p { "Sign in as the person who is invited, then open this link again." }
            p .actions { a href=(format!("{}/login", document.base)) { "Sign in" } }
        }
    };
    document.markup("Invitation", &html! {}, &body)
}

async fn accept(
    request: HttpRequest,
    secret: web::Path<String>,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
    body: web::Payload,
) -> HttpResponse {
    let accepted = accept_invitation(&api, &request, body.into_inner(), &secret).await;
    let set_cookie = match accepted {
        Ok(set_cookie) => set_cookie,
        Err(error) => return not_valid(&request, &error),
    };
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((LOCATION, links.path("/")));
    if let Some(set_cookie) = set_cookie {
        answer.insert_header((SET_COOKIE, set_cookie));
    }
    answer.finish()
}

fn not_valid(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let other;
    let sentence = match error.status_code() {
        StatusCode::UNAUTHORIZED => {
            "this link was used before, is older than seven days, or is for people who have signed \
             in; ask for a new one"
        }
        StatusCode::TOO_MANY_REQUESTS => {
            "this address has tried many wrong links and tokens; wait a minute, then try again"
        }
        _ => {
            other = error.to_string();
            other.as_str()
        }
    };
    let page = layout::failure(request, error.status_code(), sentence);
    with_page(error.error_response(), page)
}
