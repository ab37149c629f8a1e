//! The pages to sign in: with a token, or by a link that can be used once.

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use maud::{Markup, html};

use super::layout::Document;
use super::links::Links;
use super::page::{HTML, PageError, PageResult, with_page};
use super::routes::PageRoute;
use super::sign_in::address as sign_in_address;
use crate::api::{
    ApiError, ApiState, KnownCaller, StartedSession, is_own_path, sign_in, sign_in_once,
};

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::open("/login", login),
        PageRoute::open_form("/login", submit),
        PageRoute::open("/login/once/{code}", offer),
        PageRoute::open_form("/login/once/{code}", use_up),
    ]
}

/// Shows the form, or sends on a browser that has signed in.
async fn login(
    request: HttpRequest,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
) -> PageResult {
    let next = next(request.query_string().as_bytes());
    let caller = KnownCaller::known(&api, &request)
        .await
        .map_err(PageError::from)?;
    // One who is in no team any more may sign in as another.
    if caller.is_some_and(|caller| !caller.teams.is_empty()) {
        return Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, links.path(&next)))
            .finish());
    }
    let problem = form_urlencoded::parse(request.query_string().as_bytes())
        .any(|(name, value)| name == "problem" && value == "access_denied");
    let problem = problem.then_some(
        "GitHub was not allowed to sign you in. Press “Sign in with GitHub”, and allow it there.",
    );
    let page = form(&request, &next, problem);
    Ok(HttpResponse::Ok()
        .insert_header(HTML)
        .body(page.into_string()))
}

/// Returns the path to go on with, as forms and addresses name it.
fn next(pairs: &[u8]) -> String {
    let mut pairs = form_urlencoded::parse(pairs);
    let next = pairs.find(|(name, _)| name == "next");
    let next = next.map(|(_, next)| next.into_owned());
    let next = next.filter(|next| is_own_path(next));
    next.unwrap_or_else(|| "/".to_owned())
}

async fn submit(
    request: HttpRequest,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
    body: web::Payload,
) -> HttpResponse {
    match sign_in(&api, &request, body.into_inner()).await {
        Ok((session, next)) => sent_on(&links.path(&next), session),
        Err(error) => refused(&request, &error),
    }
}

/// Shows a button: programs that look at links before a person does follow a GET.
async fn offer(request: HttpRequest) -> HttpResponse {
    let document = Document::of(&request);
    let body = html! {
        form .login method="post" action=(format!("{}{}", document.base, request.path())) {
            p { "This link signs you in once." }
            button autofocus { "Sign in" }
        }
    };
    let page = document.markup("Sign in", &html! {}, &body);
    HttpResponse::Ok()
        .insert_header(HTML)
        .body(page.into_string())
}

async fn use_up(
    request: HttpRequest,
    code: web::Path<String>,
    api: web::Data<ApiState>,
    links: web::Data<Links>,
) -> HttpResponse {
    match sign_in_once(&api, &request, &code).await {
        Ok(session) => sent_on(&links.path("/"), session),
        Err(ApiError::Unauthorized) => {
            let sentence = "This link was used before, or is older than ten minutes. Sign in with a \
                            token.";
            let page = form(&request, "/", Some(sentence));
            with_page(ApiError::Unauthorized.error_response(), page)
        }
        Err(error) => refused(&request, &error),
    }
}

fn sent_on(address: &str, session: StartedSession) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .insert_header((SET_COOKIE, session.set_cookie))
        .finish()
}

/// Returns the form again with a sentence, and without the token.
fn refused(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let other;
    let sentence = match error.status_code() {
        StatusCode::UNAUTHORIZED => {
            "This token is not valid: it is incomplete, expired or revoked."
        }
        StatusCode::TOO_MANY_REQUESTS => {
            "This address has sent many wrong tokens. Wait a minute, then try again."
        }
        StatusCode::BAD_REQUEST => "Enter a token.",
        _ => {
            other = format!("You are not signed in: {error}.");
            other.as_str()
        }
    };
    with_page(error.error_response(), form(request, "/", Some(sentence)))
}

fn form(request: &HttpRequest, next: &str, error: Option<&str>) -> Markup {
    let document = Document::of(request);
    let api = request.app_data::<web::Data<ApiState>>();
    let offers_github = api.is_some_and(|api| api.offers_github());
    let body = html! {
        @if offers_github {
            p .actions {
                a href=(sign_in_address(&document.base, next)) { "Sign in with GitHub" }
            }
        }
        form .login method="post" action=(format!("{}/login", document.base)) {
            @if let Some(error) = error { p #error .error role="alert" { (error) } }
            label for="token" { "Token" }
            input #token type="password" name="token" autocomplete="current-password" required autofocus
                aria-describedby=[error.map(|_| "error")];
            input type="hidden" name="next" value=(next);
            button { "Sign in" }
            p { "A token from " code { "tallyhook token create NAME" } "." }
        }
    };
    document.markup("Sign in", &html! {}, &body)
}
