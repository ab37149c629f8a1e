//! The request of a page, and its answer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use chrono::Utc;
use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;

use super::layout::{self, Section};
use super::links::Links;
use super::routes::REGION;
use crate::api::{
    AccessRole, AdmittedPage, ApiError, ApiState, CSRF_FIELD, Caller, StoreReads, TeamApi,
    public_address,
};

pub(super) const HTML: (actix_web::http::header::HeaderName, &str) =
    (CONTENT_TYPE, "text/html; charset=utf-8");

/// The answer of a page's handler.
pub(super) type PageResult = Result<HttpResponse, PageError>;

/// The request of a page, whose caller was let in.
pub(super) struct PageRequest {
    pub(super) api: TeamApi,
    pub(super) links: Links,
    pub(super) caller: Caller,
    /// For the navigation; 0 for a caller who may not see them.
    pub(super) dead_letters: u64,
    /// The slugs of the teams that the session's holder may choose.
    pub(super) teams: Vec<String>,
    /// The time that the whole page is shown for.
    pub(super) now: Timestamp,
    csrf_token: Option<String>,
    fields: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// The parameters that the page knows: those that it asked for.
    known: RefCell<BTreeSet<String>>,
    request: HttpRequest,
}

impl PageRequest {
    /// Returns the reads of the API, for the caller.
    pub(super) fn reads(&self) -> StoreReads {
        self.api.reads()
    }

    /// Returns a part of the path, such as the number of `/prs/{number}`.
    pub(super) fn part(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// Returns a parameter of the address; one that is empty counts as left out, as a form sends
    /// every field that it has.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.known.borrow_mut().insert(name.to_owned());
        value(&self.query, name)
    }

    /// Returns all parameters of the address that are not empty, in their order.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.query.iter().map(|(name, _)| name.clone());
        self.known.borrow_mut().extend(names);
        self.given()
    }

    fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.query.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(_, value)| !value.is_empty())
    }

    /// Returns true if the address has a parameter.
    pub(super) fn has_parameters(&self) -> bool {
        self.given().next().is_some()
    }

    /// Returns the parameters of the address that the page did not ask for.
    pub(super) fn unknown_parameters(&self) -> Vec<&str> {
        let known = self.known.borrow();
        let names = self.given().map(|(name, _)| name);
        names.filter(|name| !known.contains(*name)).collect()
    }

    /// Returns the values of a parameter that may be given several times, or with commas.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.known.borrow_mut().insert(name.to_owned());
        self.given()
            .filter(move |(known, _)| *known == name)
            .flat_map(|(_, values)| values.split(','))
            .filter(|value| !value.is_empty())
    }

    /// Returns a field of the form that was sent.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }

    /// Returns the field that every form of a page has.
    pub(super) fn csrf(&self) -> Markup {
        html! {
            @if let Some(token) = &self.csrf_token {
                input type="hidden" name=(CSRF_FIELD) value=(token);
            }
        }
    }

    pub(super) fn may(&self, role: AccessRole) -> bool {
        self.caller.may(role)
    }

    /// Returns the address of this page below the base, as it was asked for.
    pub(super) fn address(&self) -> &str {
        let address = self.request.uri().path_and_query();
        address.map_or("/", |address| address.as_str())
    }

    /// Returns true if our script asks for a region of the page, since something changed.
    pub(super) fn is_region(&self) -> bool {
        self.request.headers().contains_key(REGION)
    }

    /// Returns the address of a path of this server as others reach it.
    pub(super) fn public_address(&self, path: &str) -> String {
        public_address(&self.request, path)
    }

    /// Returns true if the browser takes single keys for commands.
    pub(super) fn takes_keys(&self) -> bool {
        cookie(&self.request, "keys").as_deref() != Some("off")
    }

    /// Returns the whole page: `question` is its title and heading.
    pub(super) fn show(&self, section: Section, question: &str, body: &Markup) -> HttpResponse {
        self.show_as(StatusCode::OK, section, question, body)
    }

    /// Returns the whole page with a status of its own, such as 404.
    pub(super) fn show_as(
        &self,
        status: StatusCode,
        section: Section,
        question: &str,
        body: &Markup,
    ) -> HttpResponse {
        let page = layout::page(self, section, question, body);
        HttpResponse::build(status)
            .insert_header(HTML)
            .body(page.into_string())
    }

    /// Returns the answer to a form: the page at `address` of this server.
    pub(super) fn redirect(&self, address: &str) -> HttpResponse {
        HttpResponse::SeeOther()
            .insert_header((LOCATION, address))
            .finish()
    }

    pub(super) fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Returns the theme that the browser chose here, for the page's root.
    pub(super) fn theme(&self) -> Option<&'static str> {
        layout::theme(&self.request)
    }
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = pairs.iter().find(|(known, _)| known == name)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

impl FromRequest for PageRequest {
    type Error = PageError;
    type Future = Ready<Result<Self, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request).ok_or_else(|| ApiError::Unauthorized.into()))
    }
}

impl PageRequest {
    /// Returns the request, if [`super::routes`] let its caller in.
    fn of(request: &HttpRequest) -> Option<Self> {
        let AdmittedPage {
            caller,
            csrf_token,
            fields,
            dead_letters,
            teams,
        } = request.extensions_mut().remove()?;
        let query = form_urlencoded::parse(request.query_string().as_bytes());
        Some(Self {
            api: TeamApi::new(request.app_data::<web::Data<ApiState>>()?.clone(), &caller),
            links: request.app_data::<web::Data<Links>>()?.get_ref().clone(),
            caller,
            dead_letters,
            teams,
            now: Timestamp::from(Utc::now()),
            csrf_token,
            fields,
            query: query.into_owned().collect(),
            known: RefCell::default(),
            request: request.clone(),
        })
    }
}

/// The error of a whole page. A part of a page that fails shows its error in its place.
#[derive(Debug)]
pub(super) struct PageError(pub(super) ApiError);

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    /// Returns the response of the API. [`super::routes`] makes it a page for browsers.
    fn error_response(&self) -> HttpResponse {
        self.0.error_response()
    }
}

/// Returns a response, which has the status of an error and the headers that belong to it, with a
/// page as its body.
pub(super) fn with_page(response: HttpResponse, page: Markup) -> HttpResponse {
    let (name, value) = HTML;
    let mut response = response.set_body(page.into_string()).map_into_boxed_body();
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
    response
}

/// Returns the value of a cookie that is no secret.
pub(super) fn cookie(request: &HttpRequest, name: &str) -> Option<String> {
    let cookies = request.headers().get(COOKIE)?.to_str().ok()?;
    let mut pairs = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(known, _)| *known == name)?;
    Some(value.to_owned())
}
