//! The entry point of every request: it is recorded, replaced by a fault if a test wants one, and
//! answered within the rights of its token.

use std::sync::Mutex;

use actix_web::http::StatusCode;
use actix_web::http::header::{DATE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::access::{IssuedToken, Resource, Rights};
use super::faults::Fault;
use super::organizations::DirectoryView;
use super::rest::RestAnswer;
use super::{Request, State, app, applications, graphql, manifest, oauth};

/// Answers a request of any kind: REST, GraphQL, of the App.
pub(super) async fn answer(
    request: HttpRequest,
    body: web::Bytes,
    state: web::Data<Mutex<State>>,
) -> HttpResponse {
    let (number, latency, fault) = state.lock().unwrap().arrived(recorded(&request, &body));
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let (mut broken_every, mut lost) = (None, None);
    match fault {
        Some(Fault::Partial(every)) => broken_every = Some(every),
        Some(Fault::Lost(status)) => lost = StatusCode::from_u16(status).ok(),
        Some(fault) => {
            if let Some(response) = fault.response().await {
                state.lock().unwrap().answered(number, response.status(), 0);
                return response;
            }
        }
        None => {}
    }
    let mut state = state.lock().unwrap();
    let (mut response, cost) = state.answer(&request, &body, broken_every);
    let has_clock = state.ahead.is_some() || state.time.is_some();
    if has_clock && !response.headers().contains_key(DATE) {
        let date = (state.now() + state.ahead.unwrap_or_default())
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        response
            .headers_mut()
            .insert(DATE, date.try_into().unwrap());
    }
    let response = lost.map_or(response, HttpResponse::new);
    state.answered(number, response.status(), cost);
    response
}

fn resource(path: &str) -> Resource {
    if path.trim_matches('/').ends_with("graphql") {
        Resource::Graphql
    } else {
        Resource::Core
    }
}

fn recorded(request: &HttpRequest, body: &[u8]) -> Request {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    Request {
        number: 0,
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
        resource: resource(request.path()),
        status: 0,
        cost: 0,
    }
}

impl State {
    /// Returns the regular answer and its cost.
    fn answer(
        &mut self,
        request: &HttpRequest,
        body: &[u8],
        broken_every: Option<usize>,
    ) -> (HttpResponse, u64) {
        let authorization = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap());
        let to_anybody = oauth::answer(self, request, body)
            .or_else(|| manifest::answer(self, request, body))
            .or_else(|| applications::answer(self, request, body))
            .or_else(|| app::answer(self, request.path(), authorization));
        if let Some(response) = to_anybody {
            return (response, 0);
        }
        self.end_expired();
        let token = authorization
            .unwrap_or_default()
            .trim_start_matches("Bearer ");
        let allowance = if app::lets_in(self, authorization) {
            app::ALLOWANCE
        } else {
            token
        };
        let Some(given) = self.access.of(allowance) else {
            return (
                plain(RestAnswer::problem(
                    StatusCode::UNAUTHORIZED,
                    "Bad credentials",
                )),
                0,
            );
        };
        if request.headers().get("user-agent").is_none() {
            let message = "Request forbidden by administrative rules.";
            return (
                plain(RestAnswer::problem(StatusCode::FORBIDDEN, message)),
                0,
            );
        }
        if request.path() == "/rate_limit" {
            let mut response = plain(limits(given).into());
            mark(&mut response, Resource::Core, given);
            return (response, 0);
        }
        let resource = resource(request.path());
        let person_token = self.directory.token(token);
        if let Some(person_token) = person_token {
            given.scopes = Some(person_token.scopes.as_ref().map(|scopes| scopes.join(", ")));
        }
        let allowance = *given.allowance(resource);
        let view = DirectoryView {
            directory: &self.directory,
            oauth: &self.oauth,
            app: self.app.as_ref(),
            world: &self.world,
            token: person_token,
        };
        let by_directory = view.answer(request);
        let (answer, cost) = match resource {
            _ if allowance.remaining == 0 => (exhausted(resource), 0),
            Resource::Core => {
                let by_world = || self.world.answer(given.rights, request, body);
                (by_directory.unwrap_or_else(by_world), 1)
            }
            Resource::Graphql if let Some(errors) = refusals(&self.refused, body) => {
                (json!({ "errors": errors }).into(), 0)
            }
            Resource::Graphql => {
                let conditions = graphql::Conditions {
                    is_admin: given.rights == Rights::Admin,
                    sees_private: given.rights != Rights::Public,
                    allowance: &allowance,
                    most_pulls: self.most_pulls,
                    broken: &self.broken,
                    broken_every,
                };
                let graphql::GraphqlAnswer { value, cost } =
                    graphql::answer(&self.world, body, &conditions);
                (value.into(), cost)
            }
        };
        let etag = format!(
            "W/\"{}\"",
            hex::encode(&Sha256::digest(format!("{token}{}", answer.value))[..16])
        );
        let is_known = request
            .headers()
            .get(IF_NONE_MATCH)
            .is_some_and(|known| *known == *etag);
        let unchanged = is_known && answer.status == StatusCode::OK && request.method() == "GET";
        // An unchanged response costs nothing.
        let cost = if unchanged { 0 } else { cost };
        let allowance = given.allowance(resource);
        allowance.remaining = allowance.remaining.saturating_sub(cost);
        let mut response = match unchanged {
            true => HttpResponse::NotModified().finish(),
            false => plain(answer),
        };
        mark(&mut response, resource, given);
        if request.method() == "GET" {
            response.headers_mut().insert(ETAG, etag.parse().unwrap());
        }
        (response, cost)
    }
}

/// Returns the errors of a query that has refused texts, all of them at once as GitHub does.
fn refusals(refused: &[(String, Value)], body: &[u8]) -> Option<Vec<Value>> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let query = body["query"].as_str()?;
    let has = |(text, _): &&(String, Value)| query.contains(text.as_str());
    let errors: Vec<_> = refused
        .iter()
        .filter(has)
        .map(|(_, error)| error.clone())
        .collect();
    (!errors.is_empty()).then_some(errors)
}

pub(super) fn plain(answer: RestAnswer) -> HttpResponse {
    let mut response = HttpResponse::build(answer.status);
    for header in answer.headers {
        response.insert_header(header);
    }
    response.json(answer.value)
}

/// Adds the headers of the rate limit and of the properties of the token.
fn mark(response: &mut HttpResponse, resource: Resource, given: &mut IssuedToken) {
    let whose = [
        (
            "x-oauth-scopes",
            match &given.scopes {
                Some(scopes) => scopes.clone(),
                None => given.rights.scopes().map(str::to_owned),
            },
        ),
        (
            "github-authentication-token-expiration",
            given.expires_at.clone(),
        ),
    ];
    let allowance = given.allowance(resource);
    let whose = whose
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    for (name, value) in whose.chain([
        ("x-ratelimit-limit", allowance.limit.to_string()),
        ("x-ratelimit-remaining", allowance.remaining.to_string()),
        (
            "x-ratelimit-used",
            (allowance.limit - allowance.remaining).to_string(),
        ),
        ("x-ratelimit-reset", allowance.reset.epoch().to_string()),
        ("x-ratelimit-resource", resource.as_str().to_owned()),
    ]) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value.parse().unwrap());
    }
}

/// The answer to a token without allowance. GraphQL reports that with status 200.
fn exhausted(resource: Resource) -> RestAnswer {
    let message = "API rate limit exceeded for user ID 1.";
    match resource {
        Resource::Core => RestAnswer::problem(StatusCode::FORBIDDEN, message),
        Resource::Graphql => {
            json!({"errors": [{"type": "RATE_LIMITED", "message": message}]}).into()
        }
    }
}

fn limits(given: &mut IssuedToken) -> Value {
    let (core, graphql) = (
        given.allowance(Resource::Core).to_json(),
        given.allowance(Resource::Graphql).to_json(),
    );
    let search = json!({"limit": 30, "remaining": 30, "used": 0, "reset": core["reset"]});
    json!({"resources": {"core": core, "graphql": graphql, "search": search}, "rate": core})
}
