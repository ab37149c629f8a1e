//! The paths of pages and forms, and the role that each needs.

use std::sync::LazyLock;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ResourceDef, ServiceRequest, ServiceResponse};
use actix_web::http::header::{Accept, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{
    Error, FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, ResponseError,
    Route, guard, web,
};

use super::links::Links;
use super::page::{PageError, with_page};
use super::{
    assets, audit, channels, dead_letters, deliveries, explain, flow, health, invitation, layout,
    load, login, members, overview, preferences, pull_request, pull_requests, repositories,
    repository, settings, sign_in, sync_run, task, tasks, teams,
};
use crate::api::{AccessRole, ApiError, PageTeam, admit_page, names_first, prefers_html, unrouted};

/// The header by which our module asks for a region of a page: it gets 401, not the login.
pub(super) const REGION: &str = "x-tallyhook-region";

/// A page, or a form of one.
pub(super) struct PageRoute {
    call: PageCall,
    team: PageTeam,
    route: Route,
}

/// The method and path of a page or form, and the role that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCall {
    pub method: Method,
    pub path: &'static str,
    /// `None` is open to everyone.
    pub role: Option<AccessRole>,
}

impl PageRoute {
    /// Returns a page for callers of this role and those above it.
    pub(super) fn page<F, A>(path: &'static str, role: AccessRole, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self::new(Method::GET, path, Some(role), handler)
    }

    /// Returns the receiver of a form. Its fields are checked for the token of their page before
    /// the handler runs.
    pub(super) fn form<F, A>(path: &'static str, role: AccessRole, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self::new(Method::POST, path, Some(role), handler)
    }

    /// Returns the page or form for every caller, also for one that has to choose a team first.
    pub(super) fn of_any_team(self) -> Self {
        Self {
            team: PageTeam::Any,
            ..self
        }
    }

    /// Returns a page for everyone.
    pub(super) fn open<F, A>(path: &'static str, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self::new(Method::GET, path, None, handler)
    }

    /// Returns the receiver of a browser's form, for everyone.
    pub(super) fn open_form<F, A>(path: &'static str, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self::new(Method::POST, path, None, handler)
    }

    fn new<F, A>(method: Method, path: &'static str, role: Option<AccessRole>, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self {
            call: PageCall { method, path, role },
            team: PageTeam::Needed,
            route: web::to(handler),
        }
    }
}

/// Every page and form. A page that is not here does not exist.
fn all() -> Vec<PageRoute> {
    [
        assets::routes(),
        audit::routes(),
        channels::routes(),
        dead_letters::routes(),
        deliveries::routes(),
        explain::routes(),
        flow::routes(),
        health::routes(),
        invitation::routes(),
        load::routes(),
        login::routes(),
        members::routes(),
        overview::routes(),
        preferences::routes(),
        pull_request::routes(),
        pull_requests::routes(),
        repositories::routes(),
        repository::routes(),
        settings::routes(),
        sign_in::routes(),
        sync_run::routes(),
        task::routes(),
        tasks::routes(),
        teams::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the method, path and role of every page and form.
pub fn page_calls() -> Vec<PageCall> {
    all().into_iter().map(|route| route.call).collect()
}

/// Adds the pages to a server that has the state of the API among its data, before the API, which
/// takes the login of a program at the same path.
pub fn add_routes(config: &mut web::ServiceConfig) {
    for PageRoute { call, team, route } in all() {
        let PageCall { method, path, role } = call;
        let is_for_browsers = role.is_none() && method == Method::POST;
        let resource = web::resource(path)
            .guard(guard::Method(method))
            .guard(guard::fn_guard(move |context| {
                !is_for_browsers || accepts_html(context)
            }))
            .wrap(from_fn(move |request, next| {
                admit((path, role, team), request, next)
            }))
            .wrap(layout::headers())
            .route(route);
        config.service(resource);
    }
    config.default_service(web::to(missing).wrap(layout::headers()));
}

fn accepts_html(context: &guard::GuardContext<'_>) -> bool {
    let accept = context.header::<Accept>();
    accept.is_some_and(|accept| names_first(&accept, "text/html"))
}

/// The first parts of paths that are no pages.
const OTHER_PATHS: [&str; 6] = ["api", "healthz", "metrics", "readyz", "webhooks", "ws"];

/// Returns true if a path of the public address could be one of this server.
pub fn is_taken(base: &str) -> bool {
    let first = |path: &str| {
        path.trim_start_matches('/')
            .split('/')
            .next()
            .map(str::to_owned)
    };
    let taken = first(base).filter(|first| !first.is_empty());
    let mut calls = page_calls().into_iter();
    taken.is_some_and(|taken| {
        OTHER_PATHS.contains(&taken.as_str())
            || calls.any(|call| first(call.path).as_ref() == Some(&taken))
    })
}

/// The paths of pages with their methods.
static METHODS: LazyLock<Vec<(ResourceDef, Method)>> = LazyLock::new(|| {
    let calls = page_calls().into_iter();
    calls
        .map(|call| (ResourceDef::new(call.path), call.method))
        .collect()
});

/// Returns true if an address of this server is that of a page for people who have signed in.
pub(super) fn is_page(address: &str) -> bool {
    static PAGES: LazyLock<Vec<ResourceDef>> = LazyLock::new(|| {
        let calls = page_calls().into_iter();
        let pages = calls.filter(|call| call.method == Method::GET && call.role.is_some());
        pages.map(|call| ResourceDef::new(call.path)).collect()
    });
    let path = address.split(['?', '#']).next().unwrap_or_default();
    PAGES.iter().any(|pattern| pattern.is_match(path))
}

/// Answers a request that neither a page nor a call of the API takes.
async fn missing(request: HttpRequest) -> HttpResponse {
    let path = request.match_info().as_str();
    let of_path = METHODS.iter().filter(|(pattern, _)| pattern.is_match(path));
    let methods: Vec<_> = of_path
        .map(|(_, method)| if method == Method::GET { "GET" } else { "POST" })
        .collect();
    match unrouted(&request, &methods, true) {
        Ok(answer) => answer,
        Err(error) => shown(&request, &error),
    }
}

/// Middleware that refuses a caller who is unknown or lacks the role of the page, and shows the
/// errors of pages.
async fn admit(
    (path, role, team): (&'static str, Option<AccessRole>, PageTeam),
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut act = None;
    if let Some(role) = role {
        match admit_page(&mut request, path, role, team).await {
            Ok((admitted, found)) => {
                act = found;
                request.extensions_mut().insert(admitted);
            }
            Err(refused) => {
                let response = refusal(request.request(), &refused);
                return Ok(request.into_response(response));
            }
        }
    }
    let called = async { Ok(next.call(request).await?.map_into_boxed_body()) };
    let answer = match act {
        None => called.await?,
        Some((api, act)) => match act.run(&api, called).await? {
            Ok(answer) => answer,
            Err((request, error)) => {
                let response = shown(&request, &error);
                return Ok(ServiceResponse::new(request, response));
            }
        },
    };
    let (request, response) = answer.into_parts();
    let error = response
        .error()
        .and_then(|error| error.as_error::<PageError>());
    let page = error
        .map(|PageError(error)| layout::failure(&request, error.status_code(), &error.to_string()));
    let response = match page {
        Some(page) => with_page(response, page),
        None => response,
    };
    Ok(ServiceResponse::new(request, response))
}

/// Returns an error as a page for a browser, and as JSON for a program.
fn shown(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let response = error.error_response();
    if !prefers_html(request) {
        return response;
    }
    let page = layout::failure(request, error.status_code(), &error.to_string());
    with_page(response, page)
}

/// Returns the response to a request that is not let in: for a person the login or the choice of a
/// team, for our module the status.
fn refusal(request: &HttpRequest, refused: &ApiError) -> HttpResponse {
    let page = match refused {
        _ if request.headers().contains_key(REGION) => None,
        ApiError::TeamNeeded(_) => Some("/teams"),
        refused if refused.status_code() == StatusCode::UNAUTHORIZED => Some("/login"),
        _ => None,
    };
    let Some(page) = page else {
        let page = layout::failure(request, refused.status_code(), &refused.to_string());
        return with_page(refused.error_response(), page);
    };
    let next = request.uri().path_and_query();
    let next = next.filter(|_| request.method().is_safe());
    let next = next.map_or("", |next| next.as_str());
    let links = request.app_data::<web::Data<Links>>();
    let address = links.map(|links| links.to(page, [("next", next)]));
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address.unwrap_or_else(|| page.to_owned())))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_address_begins_with_no_path_of_this_server() {
        for (base, expected) in [
            ("", false),
            ("/tallyhook", false),
            ("/tools/api", false),
            ("/api", true),
            ("/ws/x", true),
            ("/login", true),
            ("/assets", true),
            ("/apis", false),
        ] {
            assert_eq!(is_taken(base), expected, "{base}");
        }
    }
}
