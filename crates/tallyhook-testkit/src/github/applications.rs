//! Tokens of people as their applications see them: checks, ends and resets; and the end of leaked
//! tokens, which anybody may report.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::answers::plain;
use super::directory::PersonToken;
use super::rest::RestAnswer;
use super::{FakeGithub, State};
use crate::payloads::objects;

/// The tokens of one report, and the reports of an hour.
const MAX_REPORTED: usize = 1000;
const MAX_REPORTS: usize = 60;

/// The reports of leaked tokens.
#[derive(Default)]
pub(super) struct LeakReports {
    times: Vec<DateTime<Utc>>,
    /// This server has no such endpoint.
    is_absent: bool,
}

impl FakeGithub {
    /// Takes the endpoint for leaked tokens away, which an Enterprise Server has not.
    pub fn without_credential_revocation(&self) {
        self.state().leaks.is_absent = true;
    }
}

/// Answers the requests about tokens of people.
pub(super) fn answer(
    state: &mut State,
    request: &HttpRequest,
    body: &[u8],
) -> Option<HttpResponse> {
    let parts: Vec<_> = request.path().trim_matches('/').split('/').collect();
    let authorization = request
        .headers()
        .get("authorization")
        .map(|value| value.to_str().unwrap());
    let method = request.method().as_str();
    match (method, &parts[..]) {
        ("POST", ["credentials", "revoke"]) if state.leaks.is_absent => {
            Some(plain(RestAnswer::missing()))
        }
        ("POST", ["credentials", "revoke"]) => Some(state.report_leaks(authorization, body)),
        (_, ["applications", client_id, what @ ("token" | "grant")]) => {
            let answer = state.about_token(method, (client_id, what), authorization, body);
            Some(match answer {
                Ok(None) => HttpResponse::NoContent().finish(),
                Ok(Some(value)) => HttpResponse::Ok().json(value),
                Err(answer) => plain(answer),
            })
        }
        _ => None,
    }
}

impl State {
    fn report_leaks(&mut self, authorization: Option<&str>, body: &[u8]) -> HttpResponse {
        let now = self.now();
        self.leaks
            .times
            .retain(|at| *at > now - TimeDelta::hours(1));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let tokens: Vec<_> = body["credentials"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let problem = |status, message| plain(RestAnswer::problem(status, message));
        if authorization.is_some() {
            let message = "This endpoint does not accept authentication.";
            problem(StatusCode::FORBIDDEN, message)
        } else if tokens.is_empty() || tokens.len() > MAX_REPORTED {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed")
        } else if self.leaks.times.len() >= MAX_REPORTS {
            let message = "API rate limit exceeded for 127.0.0.1.";
            let mut response = problem(StatusCode::TOO_MANY_REQUESTS, message);
            let left = self.leaks.times[0] + TimeDelta::hours(1) - now;
            let left = left.num_seconds().to_string();
            let headers = response.headers_mut();
            headers.insert("retry-after".try_into().unwrap(), left.try_into().unwrap());
            response
        } else {
            self.leaks.times.push(now);
            self.end_tokens(|token| tokens.iter().any(|leaked| **leaked == *token.token));
            HttpResponse::Accepted().json(json!({}))
        }
    }

    fn about_token(
        &mut self,
        method: &str,
        (client_id, what): (&str, &str),
        authorization: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Value>, RestAnswer> {
        self.end_expired();
        let app = self.oauth.app(client_id).cloned();
        let basic = |client_secret: &str| {
            let pair = STANDARD.encode(format!("{client_id}:{client_secret}"));
            format!("Basic {pair}")
        };
        let app = app.ok_or_else(RestAnswer::missing)?;
        if authorization != Some(&basic(&app.client_secret)) {
            let status = StatusCode::UNAUTHORIZED;
            return Err(RestAnswer::problem(status, "Bad credentials"));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let wanted = body["access_token"].as_str().unwrap_or_default();
        let now = self.now();
        let is_of_app = |token: &PersonToken| token.client_id.as_deref() == Some(client_id);
        let is_valid = |token: &&PersonToken| {
            token.token == wanted && is_of_app(token) && token.is_valid_at(now)
        };
        let known = self.directory.tokens.iter().find(is_valid);
        let known = known.ok_or_else(|| match method {
            "DELETE" => RestAnswer::problem(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed"),
            _ => RestAnswer::missing(),
        })?;
        let user = known.user;
        match (method, what) {
            ("POST", "token") => Ok(Some(self.authorization(known))),
            ("DELETE", "token") => {
                self.end_tokens(|token| token.token == wanted);
                Ok(None)
            }
            ("DELETE", "grant") => {
                self.end_tokens(|token| token.user == user && is_of_app(token));
                Ok(None)
            }
            _ => Err(RestAnswer::missing()),
        }
    }

    /// Describes a token as GitHub does.
    fn authorization(&self, token: &PersonToken) -> Value {
        let date = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let person = self.directory.person_by_id(token.user);
        let text = token.token.as_str();
        json!({
            "id": 1,
            "url": "https://api.github.com/authorizations/1",
            "app": {"name": "Tally", "url": "https://tallyhook.example.com", "client_id": token.client_id},
            "token": text,
            "hashed_token": hex::encode(Sha256::digest(text)),
            "token_last_eight": &text[text.len() - 8..],
            "note": null,
            "note_url": null,
            "created_at": date(token.issued_at),
            "updated_at": date(token.issued_at),
            "scopes": token.scopes,
            "fingerprint": null,
            "expires_at": token.expires_at.map(date),
            "user": objects::account(person.map(|person| &person.account)),
        })
    }
}
