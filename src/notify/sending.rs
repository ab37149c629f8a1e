//! One attempt to send a message to a channel, and its classified result.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Serialize;
use tallyhook_core::text::one_line;
use tallyhook_github_client::http::{read_excerpt, retry_after, root_cause};
use utoipa::ToSchema;
use uuid::Uuid;

use super::channel::{self, Channel, ChannelKind, Channels};
use super::{redact, slack, ssrf_guard};
use crate::config::ChannelSecret;

/// Bytes of a response body that are read.
const MAX_BODY: usize = 2048;
/// Characters of a response body that are stored and shown.
const MAX_EXCERPT: usize = 500;
/// The longest delay that a receiver may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A message to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutgoingMessage {
    /// The idempotency key, equal for every attempt.
    pub(super) key: Uuid,
    /// The kind of notification, sent as a header so that receivers can route without reading the
    /// body.
    pub(super) kind: &'static str,
    /// The JSON body.
    pub(super) body: String,
}

/// The result of an attempt, by what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Accepted,
    /// The receiver asked for a pause of this length.
    RetryAfter(Duration),
    /// The receiver failed or could not be reached. Any other message would fail as well.
    Unavailable,
    /// The receiver rejected this message. Another one may be accepted.
    Rejected,
    /// The receiver does not exist any more: no retry will succeed.
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SendResult {
    pub(super) outcome: SendOutcome,
    /// The HTTP status, or the reason why there was no response.
    pub(super) status: String,
    /// The beginning of the response body, redacted and on one line.
    pub(super) excerpt: String,
}

impl SendResult {
    fn without_response(outcome: SendOutcome, status: String) -> Self {
        Self {
            outcome,
            status,
            excerpt: String::new(),
        }
    }

    /// Returns the status with the excerpt of the response, if there is one.
    pub(super) fn text(&self) -> String {
        if self.excerpt.is_empty() {
            self.status.clone()
        } else {
            format!("{}: {}", self.status, self.excerpt)
        }
    }
}

/// The result of a test message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Tried)]
pub struct ChannelTestResult {
    pub channel: String,
    pub ok: bool,
    /// The receiver's answer, or the reason why there was none.
    pub answer: String,
    /// The next step; null if the message was accepted.
    pub advice: Option<String>,
}

impl Channels {
    /// Sends a message that is marked as a test.
    pub async fn test(&self, channel: &Channel, now: DateTime<Utc>) -> ChannelTestResult {
        let text = "A test message from Tallyhook: notifications reach this channel.";
        let body = match channel.kind {
            ChannelKind::Slack => slack::plain(text),
            ChannelKind::Webhook => {
                let timestamp = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                serde_json::json!({
                    "type": "test",
                    "message": text,
                    "channel": channel.name,
                    "timestamp": timestamp,
                })
            }
        };
        let message = OutgoingMessage {
            key: Uuid::new_v4(),
            kind: "test",
            body: body.to_string(),
        };
        let answer = self.send(channel, &message).await;
        let ok = answer.outcome == SendOutcome::Accepted;
        let advice = (!ok).then(|| advice(channel.kind, &answer).to_owned());
        ChannelTestResult {
            channel: channel.name.clone(),
            ok,
            answer: answer.text(),
            advice,
        }
    }

    pub(super) async fn send(&self, channel: &Channel, message: &OutgoingMessage) -> SendResult {
        let request = self
            .http
            .post(channel.url.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", message.key.to_string())
            .body(message.body.clone());
        let request = match channel.kind {
            ChannelKind::Slack => request,
            ChannelKind::Webhook => request
                .header("X-Tallyhook-Event", message.kind)
                .header("X-Tallyhook-Delivery", message.key.to_string()),
        };
        let request = match &channel.secret {
            Some(secret) => sign(request, secret, message),
            None => request,
        };
        match request.send().await {
            Ok(response) => read_response(response, channel).await,
            Err(error) => self.classify_failure(&error, channel),
        }
    }

    /// Classifies a request that got no response.
    fn classify_failure(&self, error: &reqwest::Error, channel: &Channel) -> SendResult {
        if let Some(refused) = ssrf_guard::refusal(error) {
            let advice = channel::advice(refused);
            return SendResult::without_response(
                SendOutcome::Rejected,
                format!("the address is refused: {refused}{advice}"),
            );
        }
        if error.is_timeout() {
            return SendResult::without_response(
                SendOutcome::Unavailable,
                format!("no answer within {:?}", self.timeout),
            );
        }
        let what = if error.is_connect() {
            "no connection"
        } else {
            "no answer"
        };
        let cause = match error.source() {
            Some(source) => format!(": {}", excerpt(channel, &root_cause(source))),
            None => String::new(),
        };
        SendResult::without_response(SendOutcome::Unavailable, format!("{what}{cause}"))
    }
}

/// Adds both forms of signatures: GitHub's over the body, and that of Standard Webhooks, which also
/// covers id and time and so holds against replays.
fn sign(
    request: RequestBuilder,
    secret: &ChannelSecret,
    message: &OutgoingMessage,
) -> RequestBuilder {
    let (id, timestamp) = (message.key.to_string(), Utc::now().timestamp());
    let signature = secret.sign_as_standard(&id, timestamp, &message.body);
    request
        .header("X-Hub-Signature-256", secret.sign_as_github(&message.body))
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
}

/// Reads the beginning of a response and classifies it.
async fn read_response(response: Response, channel: &Channel) -> SendResult {
    let status = response.status();
    let delay = retry_after(response.headers(), Utc::now());
    let body = read_excerpt(response, MAX_BODY).await;
    SendResult {
        outcome: classify(status, delay, channel.kind),
        status: status.to_string(),
        excerpt: excerpt(channel, &String::from_utf8_lossy(&body.bytes)),
    }
}

/// Returns a receiver's text without secrets of its address, on one line.
fn excerpt(channel: &Channel, text: &str) -> String {
    one_line(&redact::redact(channel.url.url(), text), MAX_EXCERPT)
}

fn classify(status: StatusCode, retry_after: Option<Duration>, kind: ChannelKind) -> SendOutcome {
    match (status, retry_after) {
        (status, _) if status.is_success() => SendOutcome::Accepted,
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(delay)) => {
            SendOutcome::RetryAfter(delay.min(MAX_RETRY_AFTER))
        }
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            SendOutcome::Unavailable
        }
        (status, _) if status.is_server_error() => SendOutcome::Unavailable,
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) if kind == ChannelKind::Slack => {
            SendOutcome::Deleted
        }
        _ => SendOutcome::Rejected,
    }
}

/// Returns the next step after a test message.
fn advice(kind: ChannelKind, answer: &SendResult) -> &'static str {
    match (answer.outcome, kind) {
        (SendOutcome::Accepted, _) => "nothing to do",
        (SendOutcome::RetryAfter(_), _) => "the receiver asks for a pause: try again later",
        (SendOutcome::Unavailable, _) => {
            "check that the receiver runs and can be reached from this machine"
        }
        (SendOutcome::Deleted, _) => {
            "the incoming webhook does not exist any more: create a new one in Slack and set its \
             address"
        }
        (SendOutcome::Rejected, ChannelKind::Slack) => {
            "check the address against the incoming webhook in Slack"
        }
        (SendOutcome::Rejected, ChannelKind::Webhook) => {
            "check the address, and the secret against that of the receiver"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_retry_after_decide_the_next_step() {
        let ten = Some(Duration::from_secs(10));
        for (status, delay, slack, webhook) in [
            (200, None, SendOutcome::Accepted, SendOutcome::Accepted),
            (204, ten, SendOutcome::Accepted, SendOutcome::Accepted),
            (307, None, SendOutcome::Rejected, SendOutcome::Rejected),
            (400, ten, SendOutcome::Rejected, SendOutcome::Rejected),
            (404, None, SendOutcome::Deleted, SendOutcome::Rejected),
            (410, None, SendOutcome::Deleted, SendOutcome::Rejected),
            (
                408,
                None,
                SendOutcome::Unavailable,
                SendOutcome::Unavailable,
            ),
            (
                429,
                None,
                SendOutcome::Unavailable,
                SendOutcome::Unavailable,
            ),
            (
                429,
                ten,
                SendOutcome::RetryAfter(Duration::from_secs(10)),
                SendOutcome::RetryAfter(Duration::from_secs(10)),
            ),
            (
                503,
                ten,
                SendOutcome::RetryAfter(Duration::from_secs(10)),
                SendOutcome::RetryAfter(Duration::from_secs(10)),
            ),
            (500, ten, SendOutcome::Unavailable, SendOutcome::Unavailable),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                classify(status, delay, ChannelKind::Slack),
                slack,
                "{status}"
            );
            assert_eq!(
                classify(status, delay, ChannelKind::Webhook),
                webhook,
                "{status}"
            );
        }
    }

    #[test]
    fn delay_that_a_receiver_asks_for_is_at_most_an_hour() {
        let day = Some(Duration::from_hours(24));
        assert_eq!(
            classify(StatusCode::TOO_MANY_REQUESTS, day, ChannelKind::Webhook),
            SendOutcome::RetryAfter(MAX_RETRY_AFTER)
        );
    }
}
