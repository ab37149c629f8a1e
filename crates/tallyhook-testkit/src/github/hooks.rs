//! Webhooks, and their delivery attempts.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::LINK;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;

use super::rest::{Parameters, RestAnswer};
use super::world::World;

pub(super) struct Hook {
    pub(super) id: i64,
    /// `repos/OWNER/NAME` or `orgs/NAME`.
    pub(super) owner: String,
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) events: Value,
    pub(super) active: Value,
    content_type: String,
    insecure_ssl: String,
    /// Newest first.
    pub(super) attempts: Vec<HookAttempt>,
}

/// One attempt to deliver something.
#[derive(Clone)]
pub(super) struct HookAttempt {
    pub(super) id: i64,
    pub(super) guid: String,
    pub(super) event: String,
    pub(super) payload: Value,
    pub(super) delivered_at: DateTime<Utc>,
    pub(super) redelivery: bool,
    pub(super) status_code: u16,
    /// True if GitHub still lists it, but has its payload no longer.
    pub(super) forgotten: bool,
}

/// The fate of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It is posted, and the answer is recorded.
    Posted,
    /// Nothing is posted, as if the receiver were down; this status is recorded.
    Fails(u16),
    /// It is neither posted nor listed.
    Dropped,
    /// Its payload is over 25 MB, so that GitHub neither posts nor lists it.
    TooLarge,
}

impl Hook {
    /// # Panics
    /// If the secret is empty.
    pub(super) fn new(id: i64, owner: &str, url: &str, secret: &str) -> Self {
        assert!(
            Secrets::single(secret).is_some(),
            "a webhook without a secret"
        );
        Self {
            id,
            owner: owner.to_owned(),
            url: url.to_owned(),
            secret: secret.to_owned(),
            events: json!(["*"]),
            active: json!(true),
            content_type: "json".to_owned(),
            insecure_ssl: "0".to_owned(),
            attempts: Vec::new(),
        }
    }

    fn to_json(&self) -> Value {
        let api = format!("https://api.github.com/{}/hooks/{}", self.owner, self.id);
        let created_at = "2026-01-05T09:00:00Z";
        json!({
            "type": "Repository",
            "id": self.id,
            "name": "web",
            "active": self.active,
            "events": self.events,
            "config": self.config(),
            "updated_at": created_at,
            "created_at": created_at,
            "url": api,
            "test_url": format!("{api}/test"),
            "ping_url": format!("{api}/pings"),
            "deliveries_url": format!("{api}/deliveries"),
            "last_response": self.last_response(),
        })
    }

    fn config(&self) -> Value {
        let Self {
            url,
            content_type,
            insecure_ssl,
            ..
        } = self;
        json!({
            "url": url,
            "content_type": content_type,
            "insecure_ssl": insecure_ssl,
            "secret": "********",
        })
    }

    fn last_response(&self) -> Value {
        match self.attempts.first().map(|attempt| attempt.status_code) {
            None => json!({"code": null, "status": "unused", "message": null}),
            Some(code @ 200..300) => json!({"code": code, "status": "active", "message": "OK"}),
            Some(code) => {
                json!({
                    "code": code,
                    "status": "invalid_http_response",
                    "message": "Invalid HTTP Response",
                })
            }
        }
    }

    /// Applies the fields of `body`: events, `active`, configuration.
    pub(super) fn change(&mut self, body: &Value) {
        if !body["events"].is_null() {
            self.events = body["events"].clone();
        }
        if !body["active"].is_null() {
            self.active = body["active"].clone();
        }
        let config = |name: &str| body["config"][name].as_str().map(str::to_owned);
        self.url = config("url").unwrap_or_else(|| std::mem::take(&mut self.url));
        self.secret = config("secret").unwrap_or_else(|| std::mem::take(&mut self.secret));
        self.content_type =
            config("content_type").unwrap_or_else(|| std::mem::take(&mut self.content_type));
        self.insecure_ssl =
            config("insecure_ssl").unwrap_or_else(|| std::mem::take(&mut self.insecure_ssl));
    }
}

impl HookAttempt {
    pub(super) fn new((event, guid, payload): (&str, &str, &Value), at: DateTime<Utc>) -> Self {
        Self {
            id: 0,
            guid: guid.to_owned(),
            event: event.to_owned(),
            payload: payload.clone(),
            delivered_at: at,
            redelivery: false,
            status_code: 0,
            forgotten: false,
        }
    }

    /// The attempt as lists show it.
    fn listed(&self) -> Value {
        let succeeded = (200..300).contains(&self.status_code);
        json!({
            "id": self.id, "guid": self.guid, "event": self.event,
            "delivered_at": self.delivered_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "redelivery": self.redelivery, "duration": 0.27, "status": if succeeded { "OK" } else { "Invalid HTTP Response" },
            "status_code": self.status_code, "action": self.payload["action"], "installation_id": null,
            "repository_id": self.payload["repository"]["id"], "throttled_at": null,
        })
    }

    /// The attempt with its request and response.
    fn detail(&self) -> Value {
        let mut detail = self.listed();
        detail["request"] = json!({
            "headers": {"X-GitHub-Delivery": self.guid, "X-GitHub-Event": self.event, "Content-Type": "application/json"},
            "payload": self.payload,
        });
        detail["response"] = json!({"headers": {}, "payload": "bad gateway"});
        detail
    }
}

impl World {
    /// Answers a request about the webhooks of `owner`. `rest` is the path after `hooks`.
    pub(super) fn answer_hooks(
        &mut self,
        owner: &str,
        rest: &[&str],
        request: &HttpRequest,
        body: &[u8],
    ) -> RestAnswer {
        let place = |id: &str| {
            self.hooks
                .iter()
                .position(|hook| hook.owner == owner && hook.id.to_string() == id)
        };
        let place = match rest {
            [] if request.method() == "POST" => return self.create_hook(owner, body),
            [] => {
                return self
                    .hooks
                    .iter()
                    .filter(|hook| hook.owner == owner)
                    .map(Hook::to_json)
                    .collect::<Value>()
                    .into();
            }
            [id, ..] => place(id),
        };
        let Some(hook) = place.map(|place| &mut self.hooks[place]) else {
            return RestAnswer::missing();
        };
        match rest[1..] {
            [] if request.method() == "PATCH" => {
                hook.change(&serde_json::from_slice(body).unwrap_or_default());
                hook.to_json().into()
            }
            [] => hook.to_json().into(),
            ["config"] => hook.config().into(),
            ["deliveries"] => page(&self.url, hook, request),
            ["deliveries", id] => {
                let known = hook
                    .attempts
                    .iter()
                    .find(|attempt| attempt.id.to_string() == *id && !attempt.forgotten);
                known.map_or_else(RestAnswer::missing, |attempt| attempt.detail().into())
            }
            _ => RestAnswer::missing(),
        }
    }

    fn create_hook(&mut self, owner: &str, body: &[u8]) -> RestAnswer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(url) = body["config"]["url"].as_str() else {
            return RestAnswer::invalid(
                json!([{"resource": "Hook", "field": "config.url", "code": "missing_field"}]),
            );
        };
        if self
            .hooks
            .iter()
            .any(|hook| hook.owner == owner && hook.url == url)
        {
            let message = "Hook already exists on this repository";
            return RestAnswer::invalid(
                json!([{"resource": "Hook", "code": "custom", "message": message}]),
            );
        }
        let secret = body["config"]["secret"].as_str().unwrap_or("none");
        let id = 1 + self
            .hooks
            .iter()
            .map(|hook| hook.id)
            .max()
            .unwrap_or(530_000_000);
        let mut hook = Hook::new(id, owner, url, secret);
        hook.events = json!(["push"]);
        hook.change(&body);
        let created = hook.to_json();
        self.hooks.push(hook);
        RestAnswer {
            status: StatusCode::CREATED,
            ..created.into()
        }
    }

    /// Records a delivery attempt.
    pub(super) fn attempted(&mut self, hook: i64, attempt: HookAttempt, status_code: u16) {
        let hook = self.hook(hook);
        // At GitHub ids grow over all webhooks; here they need to be unique within one only.
        let id = 1_000_000 + i64::try_from(hook.attempts.len()).unwrap();
        hook.attempts.insert(
            0,
            HookAttempt {
                id,
                status_code,
                ..attempt
            },
        );
        hook.attempts
            .sort_by_key(|attempt| std::cmp::Reverse((attempt.delivered_at, attempt.id)));
    }

    pub(super) fn hook(&mut self, id: i64) -> &mut Hook {
        self.hooks.iter_mut().find(|hook| hook.id == id).unwrap()
    }
}

/// Answers with a page of attempts, newest first; the cursor is the id of the last one of the page
/// before.
fn page(url: &str, hook: &Hook, request: &HttpRequest) -> RestAnswer {
    let parameters = Parameters::of(request);
    let per_page = parameters.per_page();
    let after = parameters
        .get("cursor")
        .map(|cursor| cursor.trim_start_matches("v1_").to_owned());
    let start = after.map_or(0, |after| {
        hook.attempts
            .iter()
            .position(|attempt| attempt.id.to_string() == after)
            .unwrap()
            + 1
    });
    let page: Vec<_> = hook.attempts.iter().skip(start).take(per_page).collect();
    let mut answer = RestAnswer::from(
        page.iter()
            .map(|attempt| attempt.listed())
            .collect::<Value>(),
    );
    if let Some(last) = page
        .last()
        .filter(|_| start + page.len() < hook.attempts.len())
    {
        let link = format!(
            "<{url}{}?per_page={per_page}&cursor=v1_{}>; rel=\"next\"",
            request.path(),
            last.id
        );
        answer.headers.push((LINK, link));
    }
    answer
}

/// Posts a signed delivery. Returns the receiver's status, 0 without a receiver.
pub(super) async fn post(
    http: &reqwest::Client,
    url: &str,
    secret: &str,
    attempt: &HookAttempt,
) -> u16 {
    let body = attempt.payload.to_string().into_bytes();
    let request = http
        .post(url)
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", &attempt.event)
        .header("X-GitHub-Delivery", &attempt.guid)
        .header(
            "X-Hub-Signature-256",
            Secrets::single(secret).unwrap().sign(&body).to_header(),
        );
    request
        .body(body)
        .send()
        .await
        .map_or(0, |answer| answer.status().as_u16())
}
