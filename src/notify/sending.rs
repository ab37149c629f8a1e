//! Sending a message, and what the receiver made of it.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::channel::{self, Channel, ChannelKind, Channels};
use super::{slack, target};

/// The most of an answer that is read, in bytes, and kept, in characters.
const READ: usize = 2048;
const KEPT: usize = 500;
/// A receiver may ask for so long a rest.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Of this and of nothing else, however often it is sent.
    pub(super) key: Uuid,
    /// What it is about, for receivers that look at no body.
    pub(super) kind: &'static str,
    /// JSON.
    pub(super) body: String,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// The receiver asks for a rest.
    NotNow(Duration),
    /// The receiver or the way to it is broken.
    Broken,
    /// The receiver wants no such thing.
    Refused,
    /// The receiver is no more.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// In our words: a status, or why there is none.
    pub(super) what: String,
    /// In the receiver's words, of which one line is left.
    pub(super) said: String,
}

impl Answer {
    fn without_words(outcome: Outcome, what: String) -> Self {
        Self {
            outcome,
            what,
            said: String::new(),
        }
    }

    pub(super) fn text(&self) -> String {
        if self.said.is_empty() {
            self.what.clone()
        } else {
            format!("{}: {}", self.what, self.said)
        }
    }
}

/// What became of a message that was sent to try a channel out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tried {
    pub channel: String,
    pub ok: bool,
    /// The receiver's answer, or why there is none.
    pub answer: String,
    /// What to do about it; null if all is well.
    pub advice: Option<String>,
}

impl Channels {
    /// Sends a message that says of itself that it is none.
    pub async fn test(&self, channel: &Channel, now: DateTime<Utc>) -> Tried {
        let text = "A test message from Tallyhook: notifications reach this channel.";
        let body = match channel.kind {
            ChannelKind::Slack => slack::plain(text),
            ChannelKind::Webhook => {
                let timestamp = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                serde_json::json!({"type": "test", "message": text, "channel": channel.name, "timestamp": timestamp})
            }
        };
        let message = Message {
            key: Uuid::new_v4(),
            kind: "test",
            body: body.to_string(),
        };
        let answer = self.send(channel, &message).await;
        let ok = answer.outcome == Outcome::Taken;
        let advice = (!ok).then(|| advice(channel.kind, &answer).to_owned());
        Tried {
            channel: channel.name.clone(),
            ok,
            answer: answer.text(),
            advice,
        }
    }

    pub(super) async fn send(&self, channel: &Channel, message: &Message) -> Answer {
        let request = self
            .http
            .post(channel.target.url().clone())
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
            Some(secret) => request.header(
                "X-Hub-Signature-256",
                secret.sign(message.body.as_bytes()).to_header(),
            ),
            None => request,
        };
        match request.send().await {
            Ok(response) => read(response, channel).await,
            Err(error) => self.unanswered(&error, channel),
        }
    }

    fn unanswered(&self, error: &reqwest::Error, channel: &Channel) -> Answer {
        if let Some(refused) = target::refusal(error) {
            let advice = channel::advice(refused);
            return Answer::without_words(
                Outcome::Refused,
                format!("nothing is sent there: {refused}{advice}"),
            );
        }
        if error.is_timeout() {
            return Answer::without_words(
                Outcome::Broken,
                format!("no answer within {:?}", self.patience),
            );
        }
        let what = if error.is_connect() {
            "no connection"
        } else {
            "no answer"
        };
        // The cause at the bottom says what is wrong; those above it repeat the address.
        let mut cause: &dyn Error = error;
        while let Some(below) = cause.source() {
            cause = below;
        }
        let cause = match error.source() {
            Some(_) => format!(": {}", one_line(&channel.target.hide(&cause.to_string()))),
            None => String::new(),
        };
        Answer::without_words(Outcome::Broken, format!("{what}{cause}"))
    }
}

async fn read(mut response: Response, channel: &Channel) -> Answer {
    let status = response.status();
    let rest = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| rest(value.to_str().ok()?, Utc::now()));
    let mut body = Vec::new();
    // What was said with the status is worth nothing more than to be shown.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= READ {
            break;
        }
    }
    let said = String::from_utf8_lossy(&body[..body.len().min(READ)]);
    let said = one_line(&channel.target.hide(&said));
    Answer {
        outcome: outcome(status, rest, channel.kind),
        what: status.to_string(),
        said,
    }
}

fn outcome(status: StatusCode, rest: Option<Duration>, kind: ChannelKind) -> Outcome {
    match (status, rest) {
        (status, _) if status.is_success() => Outcome::Taken,
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(rest)) => {
            Outcome::NotNow(rest)
        }
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => Outcome::Broken,
        (status, _) if status.is_server_error() => Outcome::Broken,
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) if kind == ChannelKind::Slack => {
            Outcome::Gone
        }
        _ => Outcome::Refused,
    }
}

/// What `Retry-After` asks for: seconds, or a date.
fn rest(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    let rest = match header.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::<Utc>::from(httpdate::parse_http_date(header).ok()?) - now)
            .to_std()
            .unwrap_or_default(),
    };
    Some(rest.clamp(RESTS.0, RESTS.1))
}

/// The beginning of a foreign text, which moves nothing on the screen it is shown on.
fn one_line(text: &str) -> String {
    let escaped = |letter: char| -> Box<dyn Iterator<Item = char>> {
        if ['"', '\'', '\\'].contains(&letter) {
            Box::new([letter].into_iter())
        } else {
            Box::new(letter.escape_debug())
        }
    };
    text.trim().chars().take(KEPT).flat_map(escaped).collect()
}

fn advice(kind: ChannelKind, answer: &Answer) -> &'static str {
    match (answer.outcome, kind) {
        (Outcome::Taken, _) => "nothing is to be done",
        (Outcome::NotNow(_), _) => "the receiver asks for a rest: try again later",
        (Outcome::Broken, _) => "check that the receiver runs and can be reached from this machine",
        (Outcome::Gone, _) => {
            "the incoming webhook is no more: make a new one in Slack and set its address"
        }
        (Outcome::Refused, ChannelKind::Slack) => {
            "check the address against the incoming webhook in Slack"
        }
        (Outcome::Refused, ChannelKind::Webhook) => {
            "check the address, and the secret against that of the receiver"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_it_is_worth_another_try() {
        let ten = Some(Duration::from_secs(10));
        for (status, rest, slack, webhook) in [
            (200, None, Outcome::Taken, Outcome::Taken),
            (204, ten, Outcome::Taken, Outcome::Taken),
            (307, None, Outcome::Refused, Outcome::Refused),
            (400, ten, Outcome::Refused, Outcome::Refused),
            (404, None, Outcome::Gone, Outcome::Refused),
            (410, None, Outcome::Gone, Outcome::Refused),
            (408, None, Outcome::Broken, Outcome::Broken),
            (429, None, Outcome::Broken, Outcome::Broken),
            (
                429,
                ten,
                Outcome::NotNow(Duration::from_secs(10)),
                Outcome::NotNow(Duration::from_secs(10)),
            ),
            (
                503,
                ten,
                Outcome::NotNow(Duration::from_secs(10)),
                Outcome::NotNow(Duration::from_secs(10)),
            ),
            (500, ten, Outcome::Broken, Outcome::Broken),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(outcome(status, rest, ChannelKind::Slack), slack, "{status}");
            assert_eq!(
                outcome(status, rest, ChannelKind::Webhook),
                webhook,
                "{status}"
            );
        }
    }

    #[test]
    fn a_rest_is_told_in_seconds_or_by_a_date_and_has_bounds() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        for (header, seconds) in [
            ("30", Some(30)),
            (" 0 ", Some(1)),
            ("86400", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("Mon, 06 Nov 1995 08:50:37 GMT", Some(3600)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(
                rest(header, now),
                seconds.map(Duration::from_secs),
                "{header}"
            );
        }
    }

    #[test]
    fn a_foreign_text_is_kept_as_one_line_that_does_nothing() {
        assert_eq!(
            one_line(" {\"error\":\"no\"}\r\n\x1b[31m\u{202e}\u{e9}"),
            "{\"error\":\"no\"}\\r\\n\\u{1b}[31m\\u{202e}\u{e9}"
        );
        assert_eq!(one_line(&"\u{e9}".repeat(KEPT + 1)), "\u{e9}".repeat(KEPT));
    }
}
