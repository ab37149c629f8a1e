//! What the API answers.

use std::sync::Mutex;

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, IF_NONE_MATCH, LINK, LOCATION};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Attempt, GITHUB_TOKEN, Hook, Request, World, app};

/// Answers any request.
pub(super) async fn answer(request: HttpRequest, body: web::Bytes, world: web::Data<Mutex<World>>) -> HttpResponse {
    let fault = {
        let mut world = world.lock().unwrap();
        world.requests.push(recorded(&request, &body));
        world.faults.pop_front()
    };
    if let Some(fault) = fault
        && let Some(response) = fault.response().await
    {
        return response;
    }
    let mut world = world.lock().unwrap();
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap());
    if let Some(response) = app::answer(&mut world, request.path(), authorization) {
        return response;
    }
    if authorization != Some(&format!("Bearer {GITHUB_TOKEN}")) && !app::lets_in(&world, authorization) {
        return error(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    if request.headers().get("user-agent").is_none() {
        return error(StatusCode::FORBIDDEN, "Request forbidden by administrative rules.");
    }
    let Answer { status, headers, value } = world.answer(&request, &body);
    let etag = format!("W/\"{}\"", hex::encode(&Sha256::digest(value.to_string())[..16]));
    let is_known = request.headers().get(IF_NONE_MATCH).is_some_and(|known| *known == *etag);
    if is_known && status == StatusCode::OK {
        return world.counted(HttpResponse::NotModified()).insert_header((ETAG, etag)).finish();
    }
    // What is unchanged costs nothing.
    world.remaining = world.remaining.saturating_sub(1);
    let mut response = world.counted(HttpResponse::build(status));
    response.insert_header((ETAG, etag));
    for header in headers {
        response.insert_header(header);
    }
    response.json(value)
}

fn recorded(request: &HttpRequest, body: &[u8]) -> Request {
    let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap().to_owned();
    Request {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(super) fn error(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::build(status).json(problem(status, message))
}

fn problem(status: StatusCode, message: &str) -> Value {
    json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.as_str()})
}

struct Answer {
    status: StatusCode,
    headers: Vec<(actix_web::http::header::HeaderName, String)>,
    value: Value,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), value }
    }
}

impl Answer {
    fn missing() -> Self {
        let status = StatusCode::NOT_FOUND;
        Self { status, headers: Vec::new(), value: problem(status, "Not Found") }
    }
}

impl World {
    fn counted(&self, mut response: HttpResponseBuilder) -> HttpResponseBuilder {
        response
            .insert_header(("X-RateLimit-Limit", "5000"))
            .insert_header(("X-RateLimit-Remaining", self.remaining.to_string()))
            .insert_header(("X-RateLimit-Reset", (chrono::Utc::now().timestamp() + 1800).to_string()))
            .insert_header(("X-RateLimit-Resource", "core"));
        response
    }

    fn answer(&self, request: &HttpRequest, body: &[u8]) -> Answer {
        let path = request.path().trim_matches('/');
        if let Some(moved) = self.moved(path) {
            return moved;
        }
        let path = self.by_name(path);
        let parts: Vec<_> = path.split('/').collect();
        let (owner, rest) = match &parts[..] {
            ["repos", owner, name, rest @ ..] => (format!("repos/{owner}/{name}"), rest),
            ["orgs", name, rest @ ..] => (format!("orgs/{name}"), rest),
            ["app", rest @ ..] => ("app".to_owned(), rest),
            ["echo"] => return serde_json::from_slice::<Value>(body).unwrap_or_default().into(),
            _ => return Answer::missing(),
        };
        let hook = |id: &str| self.hooks.iter().find(|hook| hook.owner == owner && hook.id.to_string() == id);
        match rest {
            [] => self.repository(&owner),
            ["hooks"] => self.hooks_of(&owner),
            ["hooks", id, "deliveries"] => hook(id).map_or_else(Answer::missing, |hook| self.page(hook, request)),
            ["hooks", id, "deliveries", attempt] => {
                let attempt =
                    hook(id).and_then(|hook| hook.attempts.iter().find(|known| known.id.to_string() == *attempt));
                attempt
                    .filter(|attempt| !attempt.forgotten)
                    .map_or_else(Answer::missing, |attempt| detail(attempt).into())
            }
            _ => Answer::missing(),
        }
    }

    /// A name of before leads to the repository by its id, as at GitHub.
    fn moved(&self, path: &str) -> Option<Answer> {
        let rest = path.strip_prefix("repos/")?;
        let former = self
            .repositories
            .iter()
            .flat_map(|repository| repository.former.iter().map(move |former| (former, repository.id)));
        let (id, rest) = former.into_iter().find_map(|(former, id)| {
            let rest = rest.strip_prefix(former.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((id, rest))
        })?;
        let url = format!("{}/repositories/{id}{rest}", self.url);
        let value = json!({"message": "Moved Permanently", "url": url, "documentation_url": ""});
        Some(Answer { status: StatusCode::MOVED_PERMANENTLY, headers: vec![(LOCATION, url)], value })
    }

    /// `repositories/ID/...` under its name, and the only hook of an App under its number here.
    fn by_name(&self, path: &str) -> String {
        if let Some(rest) = path.strip_prefix("app/hook/") {
            return format!("app/hooks/0/{rest}");
        }
        let named = path.strip_prefix("repositories/").and_then(|rest| {
            let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let repository = self.repositories.iter().find(|repository| repository.id.to_string() == id)?;
            Some(format!("repos/{}/{rest}", repository.full_name).trim_end_matches('/').to_owned())
        });
        named.unwrap_or_else(|| path.to_owned())
    }

    fn repository(&self, owner: &str) -> Answer {
        let found = self.repositories.iter().find(|repository| owner == format!("repos/{}", repository.full_name));
        found.map_or_else(Answer::missing, |found| json!({"id": found.id, "full_name": found.full_name}).into())
    }

    fn hooks_of(&self, owner: &str) -> Answer {
        let hooks = self.hooks.iter().filter(|hook| hook.owner == owner).map(|hook| {
            let config = json!({"url": hook.url, "content_type": "json", "insecure_ssl": "0", "secret": "********"});
            json!({"type": "Repository", "id": hook.id, "name": "web", "active": true, "events": ["*"], "config": config})
        });
        hooks.collect::<Value>().into()
    }

    /// A page of attempts, newest first; the cursor is the id of the last one of the page before.
    fn page(&self, hook: &Hook, request: &HttpRequest) -> Answer {
        let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).unwrap();
        let told = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let per_page = told("per_page").map_or(30, |number| number.parse().unwrap()).min(100);
        let after = told("cursor").map(|cursor| cursor.trim_start_matches("v1_").to_owned());
        let start = after
            .map_or(0, |after| hook.attempts.iter().position(|attempt| attempt.id.to_string() == after).unwrap() + 1);
        let page: Vec<_> = hook.attempts.iter().skip(start).take(per_page).collect();
        let mut answer = Answer::from(page.iter().map(|attempt| listed(attempt)).collect::<Value>());
        if let Some(last) = page.last().filter(|_| start + page.len() < hook.attempts.len()) {
            let link =
                format!("<{}{}?per_page={per_page}&cursor=v1_{}>; rel=\"next\"", self.url, request.path(), last.id);
            answer.headers.push((LINK, link));
        }
        answer
    }
}

/// An attempt as the list has it.
fn listed(attempt: &Attempt) -> Value {
    let succeeded = (200..300).contains(&attempt.status_code);
    json!({
        "id": attempt.id, "guid": attempt.guid, "event": attempt.event,
        "delivered_at": attempt.delivered_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "redelivery": attempt.redelivery, "duration": 0.27, "status": if succeeded { "OK" } else { "Invalid HTTP Response" },
        "status_code": attempt.status_code, "action": attempt.payload["action"], "installation_id": null,
        "repository_id": attempt.payload["repository"]["id"], "throttled_at": null,
    })
}

/// An attempt with what it carried.
fn detail(attempt: &Attempt) -> Value {
    let mut detail = listed(attempt);
    detail["request"] = json!({
        "headers": {"X-GitHub-Delivery": attempt.guid, "X-GitHub-Event": attempt.event, "Content-Type": "application/json"},
        "payload": attempt.payload,
    });
    detail["response"] = json!({"headers": {}, "payload": "bad gateway"});
    detail
}
