//! The paths of pages and forms, and the role that each needs.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::LOCATION;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{
    Error, FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, ResponseError,
    Route, guard, web,
};

use super::page::PageError;
use super::{assets, explain, flow, layout, load, login, overview, pull_request, pull_requests};
use crate::api::{AccessRole, ApiError, admit_page};

/// The header by which our module asks for a region of a page: it gets 401, not the login.
pub(super) const REGION: &str = "x-tallyhook-region";

/// A page, or a form of one.
pub(super) struct PageRoute {
    call: PageCall,
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

    /// Returns a page for everyone.
    pub(super) fn open<F, A>(path: &'static str, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self::new(Method::GET, path, None, handler)
    }

    fn new<F, A>(method: Method, path: &'static str, role: Option<AccessRole>, handler: F) -> Self
    where
        F: Handler<A>,
        A: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        Self {
            call: PageCall { method, path, role },
            route: web::to(handler),
        }
    }
}

/// Every page and form. A page that is not here does not exist.
fn all() -> Vec<PageRoute> {
    [
        assets::routes(),
        login::routes(),
        overview::routes(),
        pull_request::routes(),
        pull_requests::routes(),
        flow::routes(),
        explain::routes(),
        load::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the method, path and role of every page and form.
pub fn page_calls() -> Vec<PageCall> {
    all().into_iter().map(|route| route.call).collect()
}

/// Adds the pages to a server that has the state of the API among its data.
pub fn add_routes(config: &mut web::ServiceConfig) {
    for PageRoute { call, route } in all() {
        let PageCall { method, path, role } = call;
        let resource = web::resource(path)
            .guard(guard::Method(method))
            .wrap(from_fn(move |request, next| admit(role, request, next)))
            .wrap(layout::headers())
            .route(route);
        config.service(resource);
    }
}

/// Middleware that refuses a caller who is unknown or lacks the role of the page.
async fn admit(
    role: Option<AccessRole>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Some(role) = role {
        match admit_page(&mut request, role).await {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
            }
            Err(refused) => {
                let response = refusal(request.request(), refused);
                return Ok(request.into_response(response));
            }
        }
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// Returns the response to a request that is not let in: the login for a person, the status for
/// our module.
fn refusal(request: &HttpRequest, refused: ApiError) -> HttpResponse {
    let is_unknown = refused.status_code() == StatusCode::UNAUTHORIZED;
    if !is_unknown || request.headers().contains_key(REGION) {
        return PageError::from(refused).error_response();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    if request.method().is_safe() {
        let next = request.uri().path_and_query();
        query.append_pair("next", next.map_or("/", |next| next.as_str()));
    }
    let location = format!("/login?{}", query.finish());
    HttpResponse::SeeOther()
        .insert_header((LOCATION, location))
        .finish()
}
