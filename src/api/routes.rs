//! The documented routes, by which requests are checked: the methods of a path, the parameters of
//! a call, the columns of a list.

use std::sync::LazyLock;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::ALLOW;
use actix_web::http::{Method, Uri};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use tallyhook_core::text::one_line;

use super::access::CallAccess;
use super::caller::AddressedTeam;
use super::document;
use super::error::ApiError;
use super::input::{enumerated, suggestion};

/// Characters of an unknown parameter that an error repeats.
const MAX_NAME: usize = 60;

static OPEN: LazyLock<RouteTable> = LazyLock::new(|| RouteTable(document::routes(false)));
static ALL: LazyLock<RouteTable> = LazyLock::new(|| RouteTable(document::routes(true)));

/// The routes of a process, as the OpenAPI document describes them.
struct RouteTable(Vec<DocumentedRoute>);

/// One call of the OpenAPI document.
#[derive(Debug)]
pub(super) struct DocumentedRoute {
    pub(super) method: Method,
    /// The parts between the slashes of the path; one in braces stands for any value.
    pub(super) parts: Vec<String>,
    /// The names of the parameters in the query.
    pub(super) parameters: Vec<String>,
    /// The columns of a list as CSV; empty for other answers.
    pub(super) columns: Vec<String>,
    /// The callers that it admits.
    pub(super) access: CallAccess,
}

impl DocumentedRoute {
    /// Returns true if `parts` are of a path of this route, with a value for each part in braces.
    fn is_of(&self, parts: &[&str]) -> bool {
        let fits = |(pattern, part): (&String, &&str)| {
            pattern == part || (pattern.starts_with('{') && !part.is_empty())
        };
        self.parts.len() == parts.len() && self.parts.iter().zip(parts).all(fits)
    }

    /// Returns the number of parts in braces.
    fn values(&self) -> usize {
        let values = self.parts.iter().filter(|part| part.starts_with('{'));
        values.count()
    }

    /// Refuses parameters that the call does not have: ignored, they would give wrong answers.
    pub(super) fn check_query(&self, query: &str) -> Result<(), ApiError> {
        let mut seen = Vec::new();
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&name) {
                let message = format!("`{}` is given more than once", one_line(&name, MAX_NAME));
                return Err(ApiError::BadRequest(message));
            }
            if !self.parameters.iter().any(|known| *known == name) {
                let known: Vec<_> = self.parameters.iter().map(String::as_str).collect();
                return Err(ApiError::BadRequest(format!(
                    "unknown parameter `{}`{}: this call takes {}",
                    one_line(&name, MAX_NAME),
                    suggestion(&name, known.iter().copied()),
                    enumerated(&known, "and"),
                )));
            }
            seen.push(name);
        }
        Ok(())
    }
}

/// Lets the path of a call in a team, `/api/teams/{team}/...`, stand for the short one of the same
/// call, and notes the team. Handlers, checks and answers know the short path alone.
pub(super) fn resolve_team(request: &mut ServiceRequest) {
    let Some((team, short)) = short_path(request) else {
        return;
    };
    request.extensions_mut().insert(AddressedTeam(team));
    // The address of the request stays as it was sent; a handler is found by the match alone.
    request.match_info_mut().get_mut().update(&short);
}

/// Returns the team that a path names, and the path without it.
fn short_path(request: &ServiceRequest) -> Option<(String, Uri)> {
    let path = request.match_info().as_str();
    let mut parts = path.strip_prefix("/api/teams/")?.splitn(2, '/');
    let team = parts.next().filter(|team| !team.is_empty())?;
    parts.next().filter(|rest| !rest.is_empty())?;
    // A slash is never an escape that was resolved: both paths have the same parts.
    let sent = request.uri().path().splitn(5, '/').nth(4)?;
    let short = format!("/api/{sent}").parse().ok()?;
    Some((team.to_owned(), short))
}

/// Refuses unknown and repeated parameters in the query of a request to the API.
pub(super) fn check_query(request: &HttpRequest) -> Result<(), ApiError> {
    match find(request) {
        Some(route) => route.check_query(request.query_string()),
        None => Ok(()),
    }
}

/// Returns the documented route of a request. Its path is the one by which the handler is found,
/// in which escapes of plain characters are resolved.
pub(super) fn find(request: &HttpRequest) -> Option<&'static DocumentedRoute> {
    let route = of_path(request.method(), request.match_info().as_str());
    route.filter(|route| is_reachable(route, request))
}

/// Returns false for a call of no team by a path that names one.
fn is_reachable(route: &DocumentedRoute, request: &HttpRequest) -> bool {
    let names_team = request.extensions().get::<AddressedTeam>().is_some();
    !names_team || route.access.is_of_team()
}

/// Returns the route of a path; of several that fit, the one with fewer braces.
pub(super) fn of_path(method: &Method, path: &str) -> Option<&'static DocumentedRoute> {
    let parts: Vec<_> = path.split('/').collect();
    let fitting = ALL.0.iter().filter(|route| route.method == *method);
    fitting
        .filter(|route| route.is_of(&parts))
        .min_by_key(|route| route.values())
}

/// Answers a request that no handler takes: with 405 where the path has other methods. `pages` are
/// those of the page of this path. `readers` is true in a process that serves the API.
///
/// # Errors
/// 404 or 405.
pub(crate) fn unrouted(
    request: &HttpRequest,
    pages: &[&'static str],
    readers: bool,
) -> Result<HttpResponse, ApiError> {
    let mut methods = methods(request, readers);
    for method in pages {
        if !methods.contains(method) {
            methods.push(method);
        }
    }
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    if request.method() != Method::OPTIONS || methods.is_empty() {
        return Err(refused(request, &methods));
    }
    methods.push("OPTIONS");
    Ok(HttpResponse::NoContent()
        .insert_header((ALLOW, methods.join(", ")))
        .finish())
}

/// Returns the error of a request that no handler takes.
pub(super) fn missing(request: &HttpRequest, readers: bool) -> ApiError {
    refused(request, &methods(request, readers))
}

fn refused(request: &HttpRequest, methods: &[&'static str]) -> ApiError {
    if methods.is_empty() || methods.contains(&request.method().as_str()) {
        return ApiError::NotFound("path");
    }
    ApiError::WrongMethod(methods.join(", "))
}

/// Returns the error of a path whose values have a form that the call does not take: it may be
/// another path, with other methods.
pub(super) fn wrong_values(request: &HttpRequest) -> ApiError {
    let methods = methods(request, true);
    if methods.contains(&request.method().as_str()) {
        ApiError::NotFound("path: its numbers must be whole and below 2^63")
    } else {
        ApiError::WrongMethod(methods.join(", "))
    }
}

/// Returns the methods of the path of a request. Of several documented paths that fit, it is the
/// one with the fewest braces.
fn methods(request: &HttpRequest, readers: bool) -> Vec<&'static str> {
    let table: &'static RouteTable = if readers { &ALL } else { &OPEN };
    let parts: Vec<_> = request.match_info().as_str().split('/').collect();
    let fitting = || table.0.iter().filter(|route| route.is_of(&parts));
    let Some(fewest) = fitting().map(DocumentedRoute::values).min() else {
        return Vec::new();
    };
    let of_path = fitting()
        .filter(|route| route.values() == fewest)
        .filter(|route| is_reachable(route, request));
    let mut methods: Vec<_> = of_path.map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_call_is_found_by_its_own_path() {
        for route in &ALL.0 {
            let path = route.parts.join("/").replace(['{', '}'], "x");
            let found = of_path(&route.method, &path).unwrap();
            assert_eq!(found.parts, route.parts);
        }
        let groups = of_path(&Method::GET, "/api/dead-letters/groups").unwrap();
        assert_eq!(groups.values(), 0);
        assert!(of_path(&Method::GET, "/api/prs/").is_none());
        assert!(of_path(&Method::PUT, "/api/prs").is_none());
    }

    /// The role of a request is that of the route with the fewest braces, and its handler is the
    /// one that was registered first: if both could differ, the role would be of another handler.
    #[test]
    fn calls_that_one_path_fits_need_the_same_role() {
        for route in &ALL.0 {
            for other in ALL.0.iter().filter(|other| other.method == route.method) {
                let parts = route.parts.iter().zip(&other.parts);
                let meets = |(one, two): (&String, &String)| {
                    one == two || one.starts_with('{') || two.starts_with('{')
                };
                if route.parts.len() == other.parts.len() && parts.clone().all(meets) {
                    assert_eq!(route.access, other.access, "{route:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named_with_the_nearest_one() {
        let list = of_path(&Method::GET, "/api/prs").unwrap();
        let error = |query: &str| list.check_query(query).unwrap_err().to_string();
        let takes = "this call takes state, repo, author, ";
        let near = format!("unknown parameter `status` (did you mean `state`?): {takes}");
        assert!(error("status=open").starts_with(&near));
        let unknown = format!("unknown parameter `limit`: {takes}");
        assert!(error("limit=1").starts_with(&unknown));
        assert_eq!(
            error("state=open&st%61te=all"),
            "`state` is given more than once"
        );
        assert!(list.check_query("").is_ok() && list.check_query("state=open&to=1d").is_ok());
        let poll = of_path(&Method::POST, "/api/sync").unwrap();
        assert_eq!(
            poll.check_query("x").unwrap_err().to_string(),
            "unknown parameter `x`: this call takes nothing"
        );
    }
}
